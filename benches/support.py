"""What the measurements share: free ports, processes and what they use (from /proc), our daemon, medians beside a peer.

Everything runs on 127.0.0.1 and stops with the script. CPU is user + system time in seconds; a tick is 10 ms.
"""
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("BINARY", f"{ROOT}/target/release/ioc-watch")
ROUNDS = int(os.environ.get("ROUNDS", "5"))
started = []


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(command, log=os.devnull, **options):
    with open(log, "a") as output:
        options = {"stdout": output, "stderr": output, **options}
        process = subprocess.Popen([str(part) for part in command], **options)
    started.append(process)
    return process


def stop(*processes):
    for process in processes or list(started):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in started:
            started.remove(process)


def wait_port(port, seconds=20):
    end = time.time() + seconds
    while time.time() < end:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def get(url, headers=None):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=60) as answer:
        return answer.read()


def wait_ready(url, seconds=30):
    end = time.time() + seconds
    while time.time() < end:
        try:
            return get(url)
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{url} does not answer")


def cpu(process):
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(process, name="VmRSS"):
    with open(f"/proc/{process.pid}/status") as status:
        line = next(line for line in status if line.startswith(name + ":"))
    return int(line.split()[1]) / 1024


def daemon(directory, config, port):
    """`ioc-watch run`, ready; `config` is the text of its file."""
    file = f"{directory}/ioc-watch.yml"
    with open(file, "w") as output:
        output.write(config)
    process = start([BINARY, "run", "--config", file], f"{directory}/daemon.log")
    wait_ready(f"http://127.0.0.1:{port}/-/ready")
    return process


def mosquitto(directory, settings=""):
    port = free_port()
    with open(f"{directory}/mosquitto.conf", "w") as config:
        config.write(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n{settings}")
    process = start(["/usr/sbin/mosquitto", "-c", f"{directory}/mosquitto.conf"])
    wait_port(port)
    return process, port


def mqtt_exporter(directory, broker_port):
    """Debian's prometheus-mqtt-exporter (mqtt2prometheus) over the same five fields."""
    port = free_port()
    fields = "".join(
        f"- {{prom_name: ioc_{field}, mqtt_name: {field}, help: {field}, type: gauge}}\n"
        for field in ("online", "fps", "bitrate_kbps", "uptime_s", "temp_c")
    )
    with open(f"{directory}/mqtt2prometheus.yml", "w") as config:
        config.write(
            f"mqtt:\n  server: tcp://127.0.0.1:{broker_port}\n  topic_path: ioc/+/camera/+/telemetry\n"
            '  device_id_regex: "ioc/[^/]+/camera/(?P<deviceid>[^/]+)/telemetry"\n  qos: 1\n'
            f"cache:\n  timeout: 60m\nmetrics:\n{fields}"
        )
    command = ["prometheus-mqtt-exporter", "-config", f"{directory}/mqtt2prometheus.yml", "-log-level", "error"]
    process = start(command + ["-listen-address", "127.0.0.1", "-listen-port", port])
    wait_port(port)
    # It listens before it has subscribed.
    time.sleep(2)
    return process, port


def samples(page, name):
    """The sum of a family's values."""
    lines = (line for line in page.decode().splitlines() if line.startswith((name + "{", name + " ")))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def settle(process, received, wanted, seconds=60):
    """Waits until all is received, or until nothing has been done for 3 s."""
    end, last, quiet = time.time() + seconds, cpu(process), 0
    while time.time() < end and quiet < 6:
        if received() >= wanted:
            return
        time.sleep(0.5)
        now = cpu(process)
        quiet = quiet + 1 if now - last < 0.02 else 0
        last = now


def bench_program(name):
    """The `cargo bench` program, built if need be; MQTT_BENCH or PROBE_BENCH in the environment names a built one."""
    if built := os.environ.get(f"{name.upper()}_BENCH"):
        return built
    command = ["cargo", "bench", "--locked", "--no-run", "--bench", name, "--message-format=json", "--quiet"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    artifacts = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    # The daemon is built along with it.
    return next(a["executable"] for a in artifacts if a.get("executable") and a["target"]["name"] == name)


def compare(what, unit, runs, ours, peer, budget=None):
    """One line: medians of both with their ranges, their ratio, and whether `budget` (a ratio) is kept."""
    mine, theirs = statistics.median(runs[ours]), statistics.median(runs[peer])
    span = lambda name: f"[{min(runs[name]):.4g}..{max(runs[name]):.4g}]"
    ratio = mine / theirs if theirs else float("nan")
    verdict = "" if budget is None else f", budget {budget} x: {'kept' if ratio <= budget else 'MISSED'}"
    print(f"RESULT {what}: {ours} {mine:.4g} {span(ours)} {unit}, {peer} {theirs:.4g} {span(peer)} {unit}, "
          f"ratio {ratio:.3f} (n={len(runs[ours])}){verdict}", flush=True)


class Workspace(tempfile.TemporaryDirectory):
    """A directory, and all processes stopped before it goes."""

    def __enter__(self):
        # nginx reads its pages as another user.
        os.chmod(self.name, 0o755)
        return self

    def __exit__(self, *error):
        stop()
        return super().__exit__(*error)

    def fresh(self, name):
        path = os.path.join(self.name, name)
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return path
