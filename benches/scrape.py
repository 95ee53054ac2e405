"""CPU and time of one scrape over HTTP of 5,000 devices x 5 fields: a running daemon beside Debian's
prometheus-mqtt-exporter (mqtt2prometheus), both fed by the same broker with the same messages.

usage: benches/scrape.py [SCRAPES]      (ROUNDS=5 in the environment)

A round is SCRAPES scrapes of either; CPU is that of the scraped process, divided by their number. The daemon goes on
sampling and evaluating its rules meanwhile, so what it uses in as long a time unscraped is measured and taken off.
"""
import subprocess
import sys
import time

from support import ROUNDS, Workspace, bench_program, compare, cpu, daemon, free_port, get, memory_mb, mosquitto, mqtt_exporter
from support import samples, settle

SCRAPES = int(sys.argv[1]) if len(sys.argv) > 1 else 50
DEVICES, AGENCIES = 5_000, 50


def config(port, broker_port, directory, n_devices=DEVICES):
    agencies = "".join(f"  - {{id: agency{n:02}, name: Agency {n}, leader: truc}}\n" for n in range(AGENCIES))
    with open(f"{directory}/devices.csv", "w") as inventory:
        inventory.write("id,kind,agency,site,village,name,lat,lon,state\n")
        for n in range(n_devices):
            inventory.write(f"cam{n:05},camera,agency{n % AGENCIES:02},site-{n % AGENCIES}-{n // (4 * AGENCIES)},Village {n // (40 * AGENCIES)},Camera {n},,,installed\n")
    return f"""
site: {{name: Bench, agency: ioc}}
server: {{listen: "127.0.0.1:{port}"}}
data_dir: {directory}/data
people:
  - {{id: truc, name: Truc, email: truc@bench.example}}
agencies:
  - {{id: ioc, name: IOC, leader: truc}}
{agencies}
mqtt:
  - id: main
    url: mqtt://127.0.0.1:{broker_port}
    client_id: bench
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
email: {{smtp: "smtp://127.0.0.1:9", from: "bench@bench.example"}}
"""


def scrape(process, url, headers):
    before, begin = cpu(process), time.time()
    for _ in range(SCRAPES):
        get(url, headers)
    return (cpu(process) - before) / SCRAPES, (time.time() - begin) / SCRAPES


def main():
    program = bench_program("mqtt")
    with Workspace() as workspace:
        # Nothing is to be dropped here: this is about the page.
        _, broker_port = mosquitto(workspace.name, "max_queued_messages 0\nmax_inflight_messages 1000\n")
        port = free_port()
        ours = daemon(workspace.name, config(port, broker_port, workspace.name), port)
        peer, peer_port = mqtt_exporter(workspace.name, broker_port)
        urls = {"ioc-watch": f"http://127.0.0.1:{port}/metrics", "mqtt2prometheus": f"http://127.0.0.1:{peer_port}/metrics"}
        n = 4 * DEVICES
        subprocess.run([program, "publish", str(broker_port), str(n), str(DEVICES)], check=True)
        settle(ours, lambda: samples(get(urls["ioc-watch"]), "ioc_mqtt_messages_total"), n)
        settle(peer, lambda: samples(get(urls["mqtt2prometheus"]), "received_messages"), n)
        processes = {"ioc-watch": ours, "mqtt2prometheus": peer}
        for name, url in urls.items():
            page = get(url)
            lines = [line for line in page.decode().splitlines() if line and not line.startswith("#")]
            cams = sum(1 for line in lines if "cam0" in line)
            print(f"{name}: {len(page)} bytes, gzip {len(get(url, {'Accept-Encoding': 'gzip'}))}, {len(lines)} samples, "
                  f"{cams} of devices, resident {memory_mb(processes[name]):.1f} MB", flush=True)
            assert cams >= 5 * DEVICES, "the page lacks devices"
        for how, headers in (("plain", {}), ("gzip", {"Accept-Encoding": "gzip"})):
            used, wall = {name: [] for name in urls}, {name: [] for name in urls}
            for number in range(1, ROUNDS + 1):
                for name, url in urls.items():
                    c, w = scrape(processes[name], url, headers)
                    # The background of as long a time, so that the daemon is not charged for its rules.
                    before = cpu(processes[name])
                    time.sleep(w * SCRAPES)
                    c -= (cpu(processes[name]) - before) / SCRAPES
                    used[name].append(c)
                    wall[name].append(w)
                    print(f"round {number} {how} {name}: {c:.4f} CPU s, {w:.4f} s a scrape", flush=True)
            compare(f"scrape {how}", "CPU s", used, "ioc-watch", "mqtt2prometheus")
            compare(f"scrape {how}", "wall s", wall, "ioc-watch", "mqtt2prometheus")
        ours_cpu = sorted(used["ioc-watch"])
        print(f"budget 0.01 CPU s a scrape (plain: see above), gzip median {ours_cpu[len(ours_cpu) // 2]:.4f}")


if __name__ == "__main__":
    main()
