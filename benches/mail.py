"""1,000 alerts posted to /api/v2/alerts until 1,000 mails are accepted by an SMTP server: our daemon beside Alertmanager,
each alert a group of its own, no waiting for company, text and HTML.

usage: benches/mail.py [ALERTS]      (ROUNDS=5 in the environment; SLOW=0.3: the server takes so many seconds over a mail)

Wall time from the first post to the last mail accepted, CPU and peak memory of the alerting process. The SMTP server
(python3-aiosmtpd of Debian) takes part of the wall time. Ours commits every alert and every mail to its database on disk;
Alertmanager keeps them in memory.
"""
import datetime
import json
import os
import sys
import time
import urllib.request

from support import ROUNDS, Workspace, compare, cpu, daemon, free_port, memory_mb, start, stop, wait_port, wait_ready

SLOW = os.environ.get("SLOW", "0")
ALERTS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
SINK = """
import asyncio, re, sys, time
from aiosmtpd.smtp import SMTP
accepted = open(sys.argv[2], "a", buffering=1)
class Handler:
    async def handle_DATA(self, server, session, envelope):
        to = re.search(rb"^Message-I[dD]: (.*?)\\r?$", envelope.content, re.M)
        await asyncio.sleep(float(sys.argv[3]))
        print(time.time(), len(envelope.content), to.group(1).decode() if to else "", file=accepted)
        return "250 OK"
async def main():
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Handler(), hostname="sink"), "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()
asyncio.run(main())
"""


def ours(directory, smtp):
    port = free_port()
    return port, daemon(directory, f"""
site: {{name: Bench, agency: ioc}}
rules: {{evaluate: external}}
server: {{listen: "127.0.0.1:{port}"}}
data_dir: {directory}/data
people: [{{id: ops, name: Ops, email: ops@bench.example}}]
agencies: [{{id: ioc, name: IOC, leader: ops}}]
incidents: {{group_by: [agency, area, n], group_wait: 0s, group_interval: 5m}}
email: {{smtp: "smtp://127.0.0.1:{smtp}", from: "ioc@bench.example"}}
""", port)


def alertmanager(directory, smtp):
    port = free_port()
    with open(f"{directory}/alertmanager.yml", "w") as config:
        config.write(f"""
global: {{smtp_smarthost: '127.0.0.1:{smtp}', smtp_from: 'am@bench.example', smtp_require_tls: false, smtp_hello: localhost}}
route: {{receiver: mail, group_by: ['...'], group_wait: 0s, group_interval: 5m, repeat_interval: 4h}}
receivers: [{{name: mail, email_configs: [{{to: ops@bench.example, send_resolved: false}}]}}]
""")
    command = ["prometheus-alertmanager", f"--config.file={directory}/alertmanager.yml", f"--storage.path={directory}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=error"]
    process = start(command)
    wait_ready(f"http://127.0.0.1:{port}/-/ready")
    return port, process


def post(port):
    now = datetime.datetime.now(datetime.timezone.utc)
    text = lambda time: time.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    alerts = [
        {"labels": {"alertname": "DeviceDown", "n": f"{n:05}", "agency": "ioc", "area": "camera", "device": f"cam{n:05}",
                    "severity": "warning"},
         "annotations": {"summary": f"camera cam{n:05} does not answer"},
         "startsAt": text(now), "endsAt": text(now + datetime.timedelta(hours=1))}
        for n in range(ALERTS)
    ]
    for first in range(0, ALERTS, 64):
        body = json.dumps(alerts[first:first + 64]).encode()
        url = f"http://127.0.0.1:{port}/api/v2/alerts"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=60).close()


def measure(directory, begin):
    smtp, accepted = free_port(), f"{directory}/accepted"
    with open(f"{directory}/sink.py", "w") as script:
        script.write(SINK)
    open(accepted, "w").close()
    sink = start(["/usr/bin/python3", f"{directory}/sink.py", smtp, accepted, SLOW], f"{directory}/sink.log")
    wait_port(smtp)
    port, process = begin(directory, smtp)
    time.sleep(1)
    idle, before, first = memory_mb(process), cpu(process), time.time()
    post(port)
    posted = time.time() - first
    end = time.time() + 120
    lines = []
    while len(lines) < ALERTS and time.time() < end:
        time.sleep(0.02)
        with open(accepted) as file:
            lines = file.read().splitlines()
    time.sleep(0.5)
    used, peak = cpu(process) - before, memory_mb(process, "VmHWM")
    with open(accepted) as file:
        lines = [line.split(" ", 2) for line in file.read().splitlines()]
    wall = max(float(line[0]) for line in lines) - first
    stop(process, sink)
    repeated = len(lines) - len({line[2] for line in lines})
    print(f"  {len(lines)} mails of about {lines[0][1]} bytes, repeated {repeated}, posted in {posted:.2f} s, "
          f"all accepted after {wall:.2f} s, {used:.2f} CPU s, resident {idle:.1f} to {peak:.1f} MB", flush=True)
    assert len(lines) == ALERTS, "mails are missing or too many"
    return wall, used, peak


def main():
    subjects = {"ioc-watch": ours, "Alertmanager": alertmanager}
    runs = {what: {name: [] for name in subjects} for what in ("wall s", "CPU s", "MB peak")}
    with Workspace() as workspace:
        for number in range(1, ROUNDS + 1):
            for name, begin in subjects.items():
                print(f"round {number} {name}:")
                for what, value in zip(runs, measure(workspace.fresh("run"), begin)):
                    runs[what][name].append(value)
    for what, values in runs.items():
        compare(f"{ALERTS} alerts to mails", what, values, "ioc-watch", "Alertmanager", 1.0)


main()
