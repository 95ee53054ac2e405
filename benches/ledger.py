"""The daemon's payment ledger: first load, ten kills in the middle of it, and a further batch.

Seconds are wall time from the start to the moment at which every mismatch is open; CPU is user + system. In the
disturbed run the daemon is started again at once after each kill; what it found must be what the undisturbed run found,
mismatch by mismatch."""
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request

from support import BINARY, cpu, free_port, get, memory_mb, start, stop, wait_ready

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
BATCH = 10_000
KILLS = 10
HERE = os.path.dirname(os.path.abspath(__file__))

CONFIG = """site: {{name: Bench, agency: ioc}}
server: {{listen: '127.0.0.1:{port}'}}
data_dir: data
people: [{{id: it, name: IT, email: it@vn.example}}]
agencies: [{{id: ioc, name: IOC, leader: it}}]
services: []
history: {{tick: 1s}}
payments:
  portal: [{{csv: {{dir: portal, columns: {{txn_ref: txn_ref, dossier: dossier_id, amount: amount, status: status, time: recorded_at}}}}}}]
  gateway: [{{csv: {{dir: gateway, columns: {{txn_ref: txn_ref, dossier: dossier_id, amount: amount, status: status, time: paid_at}}}}}}]
"""


class Bench:
    def __init__(self, source):
        self.dir = tempfile.mkdtemp(prefix="ledger-")
        self.port = free_port()
        with open(f"{self.dir}/ioc.yml", "w") as file:
            file.write(CONFIG.format(port=self.port))
        for side in ("portal", "gateway"):
            os.mkdir(f"{self.dir}/{side}")
            os.link(f"{source}/{side}.csv", f"{self.dir}/{side}/1.csv")

    def run(self):
        self.process = start([BINARY, "run", "--config", f"{self.dir}/ioc.yml"], log=f"{self.dir}/log")
        return self.process

    def kill(self):
        self.process.kill()
        self.process.wait()

    def number(self, expression):
        url = f"http://127.0.0.1:{self.port}/api/v1/query?query={urllib.request.quote(expression)}"
        try:
            result = json.loads(get(url))["data"]["result"]
        except (OSError, ValueError):
            return 0.0
        return float(result[0]["value"][1]) if result else 0.0

    def wait(self, expected, seconds=600):
        end = time.time() + seconds
        while time.time() < end:
            if self.number("sum(ioc_payment_mismatches_open)") == expected:
                return
            time.sleep(0.1)
        raise SystemExit(f"{self.number('sum(ioc_payment_mismatches_open)')} mismatches instead of {expected}")

    def mismatches(self):
        found, after = set(), ""
        while True:
            url = f"http://127.0.0.1:{self.port}/api/ioc/v1/mismatches?limit=10000&after={urllib.request.quote(after)}"
            answer = json.loads(get(url if after else url.split("&after")[0]))
            for one in answer["mismatches"]:
                found.add((one["kind"], one["txnRef"], one["dossier"], one["amount"], one["since"]))
            after = answer["next"]
            if not after:
                return found


source = tempfile.mkdtemp(prefix="ledger-rows-")
expected = json.loads(subprocess.check_output([sys.executable, f"{HERE}/reconcile_gen.py", source, str(ROWS)]))
total = sum(expected[kind] for kind in expected if kind not in ("matched", "waiting"))

plain = Bench(source)
began = time.time()
process = plain.run()
plain.wait(total)
wall, first = time.time() - began, cpu(process)
print(f"RESULT ledger: first load of {ROWS} x {ROWS} rows: {wall:.1f} s, {first:.2f} CPU s, {memory_mb(process, 'VmHWM'):.0f} MB")
truth = plain.mismatches()

time.sleep(3)
idle = cpu(process)
time.sleep(5)
idle = (cpu(process) - idle) / 5


def batch(number, portal, gateway, expected, what):
    """A further batch: portal and gateway rows, and how many mismatches are open after it."""
    before, began = cpu(process), time.time()
    for side, rows, header in (("portal", portal, "recorded_at"), ("gateway", gateway, "paid_at")):
        with open(f"{plain.dir}/{side}/.{number}.csv", "w") as file:
            file.write(f"txn_ref,dossier_id,amount,status,{header}\n" + "\n".join(rows) + "\n")
        if rows:
            os.rename(f"{plain.dir}/{side}/.{number}.csv", f"{plain.dir}/{side}/{number}.csv")
    plain.wait(expected)
    used = cpu(process) - before - idle * (time.time() - began)
    print(f"RESULT ledger: a batch of {BATCH} rows, {what}: {used:.2f} CPU s, {100 * used / first:.2f} % of the first load")


# Like the rest: of 5,000 on either side the portal lacks 25. The order of the keys is not that of the dossiers.
pairs = [(f"{n * 7919 % BATCH:05}NEW", f"M-{n:08},7000", "2026-01-20T08:00:00Z") for n in range(BATCH // 2)]
paid = [f"{ref},{rest},paid,{at}" for ref, rest, at in pairs[25:]]
settled = [f"{ref},{rest},settled,{at}" for ref, rest, at in pairs]
batch(2, paid, settled, total + 25, "0.5 % of them mismatches")
rows = [f"NEW{n:08},N-{n:08},5000,settled,2026-01-20T08:00:00Z" for n in range(BATCH)]
batch(3, [], rows, total + 25 + BATCH, "all of them mismatches")
stop(process)

killed = Bench(source)
seed = int.from_bytes(os.urandom(4), "big")
rng = random.Random(seed)
began = time.time()
for _ in range(KILLS):
    killed.run()
    time.sleep(0.3 + rng.random() * wall / 4)
    killed.kill()
process = killed.run()
wait_ready(f"http://127.0.0.1:{killed.port}/-/ready")
killed.wait(total)
print(f"RESULT ledger: with {KILLS} kills (seed {seed}): {time.time() - began:.1f} s in all")
found = killed.mismatches()
stop(process)
if found != truth:
    raise SystemExit(f"the result differs: {len(found - truth)} too many, {len(truth - found)} missing")
print(f"RESULT ledger: {len(found)} mismatches, the same with and without kills")
