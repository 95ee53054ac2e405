"""CPU of one evaluation of 20 alerting rules over 50,000 series, and resident memory: a running daemon beside Debian's
Prometheus, once with static values and once with values that change at every tick.

usage: benches/rules.py [static] [changing]

WARM_UP=330 (the rules look back 5 minutes), SECONDS_MEASURED=60 and ROUNDS=3 in the environment. BINARY names a built daemon,
MQTT_BENCH a built publisher.

The daemon hears of 10,000 cameras with five values each over MQTT; Prometheus scrapes a page of the same series. Both
evaluate the same rule file. Of either a second one runs beside it that does all the same without the rules, and what that
uses is taken off: what remains is the evaluation of the rules, and for the daemon also what follows from it, the states in the
database and the incidents (Prometheus has no Alertmanager to send to). The duration of the evaluation alone, by what each
says of itself, is printed too; it is wall time.

Values that change: every measured value at every tick; of the 0/1 of `ioc_device_up` it is each time another twentieth that is
down. FLIP=1 turns every 0/1 at every tick instead.
"""
import http.server
import json
import os
import statistics
import subprocess
import sys
import threading
import time

from support import Workspace, bench_program, compare, cpu, daemon, free_port, get, memory_mb, mosquitto, samples, start, stop, wait_ready

DEVICES, AGENCIES, SITES, TICK = 10_000, 50, 500, 15
WARM_UP = float(os.environ.get("WARM_UP", "330"))
SECONDS = float(os.environ.get("SECONDS_MEASURED", "60"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
FLIP = os.environ.get("FLIP") == "1"
FRAMES, BITRATE = "ioc_camera_frames_per_second", "ioc_camera_bitrate_bits_per_second"
UPTIME, CELSIUS = "ioc_camera_uptime_seconds", "ioc_camera_temperature_celsius"
RULES = [
    "ioc_device_up == 0",
    "sum by (agency)(ioc_device_up) / count by (agency)(ioc_device_up) < 0.9",
    "avg_over_time(ioc_device_up[5m]) < 0.9",
    f"{FRAMES} < 10 and ignoring(kind) ioc_device_up == 1",
    f"{CELSIUS} > 74",
    f"{BITRATE} < 520000 and on(device) ioc_device_up == 1",
    f"{UPTIME} < 300",
    f"max_over_time({CELSIUS}[5m]) > 74.5",
    f"min_over_time({FRAMES}[5m]) < 12.1 and ignoring(kind) ioc_device_up == 1",
    "changes(ioc_device_up[5m]) > 3",
    f"resets({UPTIME}[5m]) > 2",
    f"delta({UPTIME}[5m]) < 0",
    f"sum by (agency, site)({BITRATE}) > 200000000",
    f"avg by (agency, kind)({CELSIUS}) > 60",
    "count by (agency, site)(ioc_device_up == 0) > 4",
    f"quantile by (agency)(0.95, {CELSIUS}) > 74",
    f"predict_linear({CELSIUS}[5m], 600) > 74.8",
    f"stddev by (agency)({FRAMES}) > 20",
    "ioc_device_up == 0 unless on(agency) (avg by (agency)(ioc_device_up) < 0.9)",
    'count by (agency)(ioc_device_up{kind="camera"} == 0) / count by (agency)(ioc_device_up{kind="camera"}) > 0.1',
]


def values(device, number):
    """As `benches/mqtt.rs fleet` publishes them."""
    up = (device + number) % 2 if FLIP and number else int((device + number) % 20 != 7)
    return (
        up,
        120 + (device * 7 + number * 13) % 180 if up else 0,
        512 + (device * 31 + number * 97) % 5489 if up else 0,
        100 + (device * 101 + number * 7919) % 999_983,
        250 + (device * 11 + number * 17) % 501,
    )


def page(number):
    columns = [[], [], [], [], []]
    for device in range(DEVICES):
        labels = f'agency="agency{device % AGENCIES:02}",site="site-{device % SITES:03}",device="cam{device:05}"'
        up, frames, bitrate, uptime, celsius = values(device, number)
        columns[0].append(f'ioc_device_up{{{labels},kind="camera"}} {up}\n')
        columns[1].append(f"{FRAMES}{{{labels}}} {frames / 10}\n")
        columns[2].append(f"{BITRATE}{{{labels}}} {bitrate * 1000}\n")
        columns[3].append(f"{UPTIME}{{{labels}}} {uptime}\n")
        columns[4].append(f"{CELSIUS}{{{labels}}} {celsius / 10}\n")
    return "".join("".join(column) for column in columns).encode()


class Page:
    """What Prometheus scrapes."""

    def __init__(self):
        self.text = page(0)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(outer.text)))
                self.end_headers()
                self.wfile.write(outer.text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def write_rules(directory):
    text = "groups:\n- name: bench\n  interval: 15s\n  rules:\n"
    for number, rule in enumerate(RULES, 1):
        text += (
            f"  - alert: R{number:02}\n    expr: {json.dumps(rule)}\n    labels: {{severity: warning, area: camera}}\n"
            "    annotations: {summary: 'device {{ $labels.device }} agency {{ $labels.agency }}', summary_en: a, description: b, "
            "description_en: c, runbook: d}\n"
        )
    with open(f"{directory}/rules.yml", "w") as output:
        output.write(text)


def our_config(directory, port, broker, rules):
    with open(f"{directory}/devices.csv", "w") as inventory:
        inventory.write("id,kind,agency,site,village,name,lat,lon,state\n")
        for n in range(DEVICES):
            inventory.write(f"cam{n:05},camera,agency{n % AGENCIES:02},site-{n % SITES:03},Village {n // AGENCIES // 40},Camera {n},,,installed\n")
    agencies = "".join(f"  - {{id: agency{n:02}, name: Agency {n}, leader: ops}}\n" for n in range(AGENCIES))
    return f"""
site: {{name: Bench, agency: ioc}}
server: {{listen: "127.0.0.1:{port}"}}
data_dir: {directory}/data
people: [{{id: ops, name: Ops, email: ops@bench.example}}]
agencies:
  - {{id: ioc, name: IOC, leader: ops}}
{agencies}
rules: {rules}
mqtt:
  - id: main
    url: mqtt://127.0.0.1:{broker}
    client_id: bench-{port}
    topics:
      - filter: "ioc/{{agency}}/{{kind}}/{{device}}/telemetry"
        qos: 1
        decode: json
        fields:
          online: device_up
          fps: camera_frames_per_second
          bitrate_kbps: {{metric: camera_bitrate_bits_per_second, multiply: 1000}}
          uptime_s: camera_uptime_seconds
          temp_c: camera_temperature_celsius
devices: {{inventory: devices.csv, offline_after: never}}
email: {{smtp: "smtp://127.0.0.1:{free_port()}", from: "bench@bench.example"}}
"""


def prometheus(directory, port, target, rules):
    with open(f"{directory}/prometheus.yml", "w") as config:
        config.write(f"global: {{scrape_interval: {TICK}s, evaluation_interval: {TICK}s}}\n{rules}scrape_configs:\n"
                     f"- {{job_name: ioc, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}\n")
    process = start(["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
                     f"--web.listen-address=127.0.0.1:{port}"], f"{directory}/prometheus.log")
    wait_ready(f"http://127.0.0.1:{port}/-/ready")
    return process


def feed(program, broker, target, is_changing, done):
    """A round at once, and if values change another every tick."""
    number = 0
    while True:
        began = time.time()
        arguments = [str(broker), str(DEVICES), str(number)] + (["flip"] if FLIP else [])
        subprocess.run([program, "fleet", *arguments], check=True)
        if number:
            target.text = page(number)
        number += 1
        if done.wait(max(0.0, began + TICK - time.time()) if is_changing else None):
            return


def measure(workspace, program, how):
    """Medians of one way of values."""
    base = workspace.fresh(how)
    write_rules(base)
    target, done = Page(), threading.Event()
    _, broker = mosquitto(base, "max_queued_messages 0\nmax_inflight_messages 1000\n")
    processes, ports = {}, {}
    for name, ours, theirs in (("with", f"{{files: [{base}/rules.yml]}}", f"rule_files: [{base}/rules.yml]\n"),
                               ("without", "{evaluate: external}", "")):
        directory = workspace.fresh(f"{how}/{name}")
        ports["ioc-watch", name] = free_port()
        config = our_config(directory, ports["ioc-watch", name], broker, ours)
        processes["ioc-watch", name] = daemon(directory, config, ports["ioc-watch", name])
        ports["prometheus", name] = free_port()
        processes["prometheus", name] = prometheus(directory, ports["prometheus", name], target.port, theirs)
    feeder = threading.Thread(target=feed, args=(program, broker, target, how == "changing", done), daemon=True)
    feeder.start()
    time.sleep(WARM_UP)
    used = {"ioc-watch": [], "prometheus": []}
    resident = {"ioc-watch": [], "prometheus": []}
    took = {"ioc-watch": [], "prometheus": []}
    durations = {"ioc-watch": "ioc_rule_group_last_duration_seconds", "prometheus": "prometheus_rule_group_last_duration_seconds"}
    for number in range(1, ROUNDS + 1):
        before, began = {key: cpu(process) for key, process in processes.items()}, time.time()
        while time.time() < began + SECONDS:
            time.sleep(min(TICK, SECONDS))
            # Of all, so that what a scrape costs is taken off too.
            pages = {key: get(f"http://127.0.0.1:{port}/metrics") for key, port in ports.items()}
            for name in took:
                took[name].append(samples(pages[name, "with"], durations[name]))
        evaluations = (time.time() - began) / TICK
        spent = {key: cpu(process) - before[key] for key, process in processes.items()}
        for name in used:
            used[name].append((spent[name, "with"] - spent[name, "without"]) / evaluations)
            resident[name].append(memory_mb(processes[name, "with"]))
        print(f"round {number} {how}: " + ", ".join(
            f"{name} {used[name][-1] * 1000:.0f} ms CPU an evaluation, {resident[name][-1]:.0f} MB (without rules "
            f"{spent[name, 'without'] / evaluations * 1000:.0f} ms, {memory_mb(processes[name, 'without']):.0f} MB)" for name in used), flush=True)
    listing = json.loads(get(f"http://127.0.0.1:{ports['prometheus', 'with']}/api/v1/rules"))["data"]["groups"][0]["rules"]
    theirs = {rule["name"]: len(rule["alerts"]) for rule in listing}
    listing = json.loads(get(f"http://127.0.0.1:{ports['ioc-watch', 'with']}/api/v1/rules"))["data"]["groups"][0]["rules"]
    for rule in listing:
        print(f"{rule['name']} {rule['evaluationTime'] * 1000:7.2f} ms, {len(rule['alerts'])} alerts, Prometheus {theirs[rule['name']]}  {rule['query']}")
    done.set()
    feeder.join(TICK)
    stop()
    compare(f"rules {how}", "CPU s an evaluation", used, "ioc-watch", "prometheus", 1 / 50)
    compare(f"rules {how}", "MB resident", resident, "ioc-watch", "prometheus", 1 / 3)
    compare(f"rules {how}, the evaluation alone", "wall s", took, "ioc-watch", "prometheus", 1 / 50)
    print(f"RESULT rules {how}: {sum(len(rule['alerts']) for rule in listing)} alerts, Prometheus {sum(theirs.values())}; "
          f"worst evaluation {max(took['ioc-watch']):.3f} s, median {statistics.median(took['ioc-watch']):.3f} s", flush=True)


def main():
    program = bench_program("mqtt")
    with Workspace() as workspace:
        for how in sys.argv[1:] or ["static", "changing"]:
            measure(workspace, program, how)


main()
