"""The whole daemon with 2,000 HTTPS services every 30 s, full handshakes, on one core: CPU a check, cores used, how late
checks come, and resident memory over time.

usage: benches/services.py [--soak]

SERVICES=2000, EVERY=30, WARM_UP=60 and SECONDS_MEASURED=120 in the environment (seconds); --soak makes them 1,200 and
3,600, and fails unless memory is flat: the median of the last quarter at most 3 % + 1 MB above that of the first.
BINARY names a built program; otherwise it is target/release/ioc-watch.

The daemon runs on core 0 with its shipped rules, the embedded ruler and its database; an nginx on the other core serves
the page. Lateness is seen from outside, by nginx's log: each service has a path of its own and a grid of times 30 s
apart; the earliest arrival on the grid counts as punctual, what follows is late by its distance from the grid. The warm-up
is as long as the rules look back: until then the history grows as it must.
"""
import collections
import os
import re
import statistics
import subprocess
import sys
import time

from probe import KEYS, make_certificates
from support import Workspace, cpu, daemon, free_port, get, memory_mb, samples, start, stop, wait_port

SOAK = "--soak" in sys.argv[1:]
SERVICES = int(os.environ.get("SERVICES", "2000"))
EVERY = int(os.environ.get("EVERY", "30"))
WARM_UP = float(os.environ.get("WARM_UP", "1200" if SOAK else "60"))
SECONDS = float(os.environ.get("SECONDS_MEASURED", "3600" if SOAK else "120"))
AGENCIES = 20
# Late by more than this is later than a person would call punctual.
LATE = 1.0


def start_server(directory):
    port = free_port()
    os.mkdir(f"{directory}/www")
    with open(f"{directory}/www/index.html", "w") as page:
        page.write("<html><body>" + "portal page " * 160 + "</body></html>\n")
    temp = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(f"{directory}/nginx.conf", "w") as config:
        config.write(
            f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.err;\n"
            "events { worker_connections 1024; }\n"
            "http { log_format arrival '$msec $request_time $request_uri';\n"
            f"access_log {directory}/arrivals arrival; default_type text/html; {temp}\n"
            f"server {{ listen 127.0.0.1:{port} ssl backlog=1024; ssl_certificate {directory}/server.pem;\n"
            f"ssl_certificate_key {directory}/server.key; ssl_protocols TLSv1.3; root {directory}/www;\n"
            "try_files /index.html =404; } }\n"
        )
    cores = os.cpu_count() or 1
    # On one core only, both share it.
    command = ["taskset", "-c", f"{min(1, cores - 1)}-{cores - 1}"] if cores > 1 else []
    start(command + ["nginx", "-e", f"{directory}/nginx.err", "-c", f"{directory}/nginx.conf"])
    wait_port(port)
    return port


def configuration(directory, port, server):
    agencies = "".join(f"  - {{id: xa-{n}, name: Xã {n}, leader: ops}}\n" for n in range(AGENCIES))
    services = "".join(
        f"  - {{id: s-{n:04}, agency: xa-{n % AGENCIES}, kind: portal, every: {EVERY}s, timeout: 10s, "
        f"http: {{url: 'https://127.0.0.1:{server}/s-{n:04}', body_contains: portal, slow_after: 5s, "
        f"ca_file: {directory}/ca.pem}}}}\n"
        for n in range(SERVICES)
    )
    return (
        f"site: {{name: Bench, agency: ioc}}\nserver: {{listen: '127.0.0.1:{port}'}}\ndata_dir: {directory}/data\n"
        "people: [{id: ops, name: Ops, email: ops@bench.example}]\n"
        f"agencies:\n  - {{id: ioc, name: IOC, leader: ops}}\n{agencies}services:\n{services}"
        f"email: {{smtp: 'smtp://127.0.0.1:{free_port()}', from: 'ioc@bench.example'}}\n"
    )


def checks(port):
    """Checks by result, and how many were skipped."""
    page = get(f"http://127.0.0.1:{port}/metrics")
    counts = collections.Counter()
    for line in page.decode().splitlines():
        if line.startswith("ioc_service_checks_total{"):
            counts[re.search('result="([a-z]+)"', line)[1]] += float(line.rsplit(" ", 1)[1])
    return counts, samples(page, "ioc_probes_skipped_total"), samples(page, "ioc_watch_task_restarts_total")


def lateness(directory, since):
    """Seconds behind the grid of every arrival after `since`, and the gaps between arrivals of one service."""
    arrivals = collections.defaultdict(list)
    with open(f"{directory}/arrivals") as log:
        for line in log:
            moment, took, path = line.split()
            if float(moment) - float(took) >= since:
                arrivals[path].append(float(moment) - float(took))
    late, gaps = [], []
    for times in arrivals.values():
        times.sort()
        phases = [moment % EVERY for moment in times]
        # The grid may lie at the seam of the modulus: compared on the circle, from the first arrival on.
        around = [(phase - phases[0] + EVERY / 2) % EVERY - EVERY / 2 for phase in phases]
        late += [distance - min(around) for distance in around]
        gaps += [after - before for before, after in zip(times, times[1:])]
    return late, gaps, len(arrivals)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def watch(process, port):
    """Resident memory, often enough for 20 lines and a median of each quarter."""
    begin, resident, printed = time.time(), [], 0.0
    while (passed := time.time() - begin) < SECONDS:
        time.sleep(min(max(SECONDS / 240, 1), SECONDS - passed))
        resident.append(memory_mb(process))
        if time.time() - begin >= printed:
            print(f"{time.time() - begin:6.0f} s  {resident[-1]:.1f} MB", flush=True)
            printed += max(SECONDS / 20, 5)
        if process.poll() is not None:
            sys.exit("the daemon ended by itself")
    return resident


def main():
    failures = []
    with Workspace() as workspace:
        directory, port = workspace.fresh("services"), free_port()
        make_certificates(directory, KEYS["ECDSA P-256"])
        config = configuration(directory, port, start_server(directory))
        process = daemon(directory, config, port)
        # Threads that exist already are moved too; new ones inherit.
        subprocess.run(["taskset", "-acp", "0", str(process.pid)], check=True, capture_output=True)
        print(f"{SERVICES} services every {EVERY} s on core 0, warm-up {WARM_UP:.0f} s, then {SECONDS:.0f} s", flush=True)
        time.sleep(WARM_UP)
        before, skipped_before, _ = checks(port)
        since, cpu_before = time.time(), cpu(process)
        resident = watch(process, port)
        used, wall = cpu(process) - cpu_before, time.time() - since
        after, skipped, restarts = checks(port)
        after.subtract(before)
        late, gaps, seen = lateness(directory, since)
        peak = memory_mb(process, "VmHWM")
        stop()
    made = sum(after.values())
    results = ", ".join(f"{name} {count:.0f}" for name, count in after.items() if count)
    expected = SERVICES * wall / EVERY
    print(f"RESULT services checks: {made:.0f} of {expected:.0f} expected ({results}), "
          f"{skipped - skipped_before:.0f} skipped, {restarts:.0f} restarts of tasks")
    print(f"RESULT services CPU: {used / made * 1000:.3f} ms a check, {used / wall:.3f} cores ({used:.1f} CPU s in {wall:.0f} s, "
          "the ruler, the history and the database included)")
    if gaps:
        print(f"RESULT services lateness: median {statistics.median(late) * 1000:.0f} ms, p99 {percentile(late, 0.99) * 1000:.0f} ms, "
              f"max {max(late) * 1000:.0f} ms; gaps of one service {min(gaps):.2f} to {max(gaps):.2f} s ({seen} services)")
    quarter = max(len(resident) // 4, 1)
    first, last = statistics.median(resident[:quarter]), statistics.median(resident[-quarter:])
    bound = first * 1.03 + 1
    print(f"RESULT services memory: {first:.1f} MB in the first quarter, {last:.1f} MB in the last (bound {bound:.1f}), peak {peak:.1f} MB")
    if after["ok"] != made or skipped > skipped_before or restarts:
        failures.append("not every check was made and ok")
    if abs(made - expected) > max(expected * 0.02, SERVICES * 0.1):
        failures.append("checks were not made as often as configured")
    if SOAK and last > bound:
        failures.append("memory grew")
    if SOAK and late and percentile(late, 0.99) > LATE:
        failures.append(f"checks came more than {LATE:.0f} s late")
    for failure in failures:
        print(f"FAILED {failure}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
