"""Resident memory when idle, 25 s after the start: our daemon with examples/district beside Prometheus, Alertmanager and
blackbox_exporter, each alone with Debian's default configuration.

usage: benches/idle.py [SECONDS]      (ROUNDS=5 in the environment)

The district's names do not resolve here: its checks, broker and mail server are rewritten to loopback ports where
nothing listens, everything else stays.
"""
import re
import shutil
import sys
import time

from support import ROOT, ROUNDS, Workspace, compare, cpu, daemon, free_port, memory_mb, start, wait_ready

from support import stop

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 25
PEERS = {
    "prometheus": ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path={data}"],
    "alertmanager": ["prometheus-alertmanager", "--config.file=/etc/prometheus/alertmanager.yml", "--storage.path={data}",
                     "--cluster.listen-address="],
    "blackbox_exporter": ["prometheus-blackbox-exporter", "--config.file=/etc/prometheus/blackbox.yml"],
}


def district(workspace, port):
    directory = workspace.fresh("district")
    shutil.copytree(f"{ROOT}/examples/district", directory, dirs_exist_ok=True)
    shutil.rmtree(f"{directory}/data", ignore_errors=True)
    with open(f"{directory}/ioc-watch.yml") as file:
        text = file.read()
    closed = free_port()
    text = text.replace("127.0.0.1:9470", f"127.0.0.1:{port}").replace("../calendar", f"{ROOT}/examples/calendar")
    text = re.sub(r"https://(dvc|motcua|halam|binhminh)\.[a-z.]*vn\.example", f"https://127.0.0.1:{closed}", text)
    text = text.replace("db.thangbinh.vn.example", f"127.0.0.1:{closed}")
    text = text.replace("broker.thangbinh.vn.example:8883", f"127.0.0.1:{closed}")
    text = text.replace("mail.thangbinh.vn.example:587", f"127.0.0.1:{closed}")
    return directory, text


def main():
    resident = {"ioc-watch": [], "sum of the three": []}
    with Workspace() as workspace:
        for number in range(1, ROUNDS + 1):
            port = free_port()
            directory, text = district(workspace, port)
            processes = {"ioc-watch": daemon(directory, text, port)}
            for name, command in PEERS.items():
                port, data = free_port(), workspace.fresh(name)
                command = [part.format(data=data) for part in command]
                processes[name] = start(command + [f"--web.listen-address=127.0.0.1:{port}"])
                wait_ready(f"http://127.0.0.1:{port}/metrics")
            before = {name: cpu(process) for name, process in processes.items()}
            time.sleep(SECONDS)
            rss = {name: memory_mb(process) for name, process in processes.items()}
            used = {name: (cpu(process) - before[name]) * 60 / SECONDS for name, process in processes.items()}
            print(f"round {number}: " + ", ".join(f"{name} {rss[name]:.1f} MB {used[name]:.2f} CPU s/min" for name in rss),
                  f"(ioc-watch peak {memory_mb(processes['ioc-watch'], 'VmHWM'):.1f} MB)", flush=True)
            resident["ioc-watch"].append(rss["ioc-watch"])
            resident["sum of the three"].append(sum(rss[name] for name in PEERS))
            stop()
    compare("idle", "MB resident", resident, "ioc-watch", "sum of the three")
    median = sorted(resident["ioc-watch"])[ROUNDS // 2]
    print(f"budget 40 MB: {'kept' if median <= 40 else 'MISSED'}")


main()
