"""The whole daemon with its shipped rules and 100,000 cameras of 5 fields, all values changing, over mosquitto: resident
memory with the history, CPU a message, what was lost, and whether memory stays flat while somebody scrapes slowly.

usage: benches/fleet.py

DEVICES=100000, RATE=20000 (messages a second), SECONDS_MEASURED=120 and WARM_UP=60 (seconds) in the environment; BINARY
and MQTT_BENCH name built programs. STEADY=1 leaves the devices online; otherwise another twentieth of them says in each
round that it is offline, so that at every evaluation thousands of alerts begin and end. The warm-up fills the history: it keeps five minutes for the rules' lookback, so a
figure of memory needs WARM_UP=360. The slow scraper reads the page at 64 KiB a second, and begins again when it has it.

Fails if memory is above 250 MB after the warm-up, if the median of the last quarter is more than 3 % + 1 MB above that of
the first, or if a message is lost.
"""
import os
import socket
import statistics
import subprocess
import sys
import threading
import time

from scrape import config
from support import Workspace, bench_program, cpu, daemon, free_port, get, memory_mb, mosquitto, samples

DEVICES = int(os.environ.get("DEVICES", "100000"))
RATE = int(os.environ.get("RATE", "20000"))
WARM_UP = float(os.environ.get("WARM_UP", "60"))
SECONDS = float(os.environ.get("SECONDS_MEASURED", "120"))
STEADY = os.environ.get("STEADY") == "1"
BUDGET_MB = 250
SLOWLY = 64 * 1024


def scrape_slowly(port, stop):
    while not stop.is_set():
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.settimeout(10)
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                while not stop.is_set() and connection.recv(SLOWLY):
                    time.sleep(1)
        except OSError:
            time.sleep(1)


def page(port):
    return get(f"http://127.0.0.1:{port}/metrics")


def main():
    program, failures = bench_program("mqtt"), []
    with Workspace() as workspace:
        directory = workspace.fresh("fleet")
        broker, broker_port = mosquitto(directory)
        port = free_port()
        process = daemon(directory, config(port, broker_port, directory, DEVICES), port)
        idle = memory_mb(process)
        pacer = subprocess.Popen(
            [program, "pace", str(broker_port), str(RATE), str(int(WARM_UP + SECONDS)), str(DEVICES)] + (["steady"] if STEADY else []),
            stdout=subprocess.PIPE, text=True,
        )
        time.sleep(WARM_UP)
        stop, begin = threading.Event(), time.time()
        scraper = threading.Thread(target=scrape_slowly, args=(port, stop))
        scraper.start()
        before, taken_before, resident = cpu(process), samples(page(port), "ioc_mqtt_messages_total"), []
        broker_before = cpu(broker)
        printed = 0.0
        while pacer.poll() is None:
            resident.append(memory_mb(process))
            if time.time() - begin >= printed:
                print(f"{time.time() - begin:6.0f} s  {resident[-1]:.1f} MB", flush=True)
                printed += max(SECONDS / 20, 5)
            time.sleep(1)
        sent = dict(part.split("=") for part in pacer.stdout.read().split())
        wall, used, broker_used = time.time() - begin, cpu(process) - before, cpu(broker) - broker_before
        # What the daemon has yet to read, and the broker to send, is not lost: on a busy machine that takes a while.
        for _ in range(10):
            time.sleep(2)
            text = page(port)
            if samples(text, "ioc_mqtt_messages_total") >= float(sent["sent"]):
                break
        late = time.time() - begin - wall
        stop.set()
        scraper.join()
        taken = samples(text, "ioc_mqtt_messages_total")
        by_result = {
            line.split('result="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1])
            for line in text.decode().splitlines() if line.startswith("ioc_mqtt_messages_total{")
        }
        dropped = samples(text, "ioc_mqtt_broker_dropped_total")
        history = samples(text, "ioc_history_bytes") / 1e6
        peak = memory_mb(process, "VmHWM")
    shown = ", ".join(f"{name} {count:.0f}" for name, count in by_result.items() if count)
    rate = float(sent["sent"]) / float(sent["seconds"])
    print(f"RESULT fleet messages: {sent['sent']} sent at {rate:.0f} a second, received {late:.0f} s after the last: {shown}; the broker dropped {dropped:.0f}")
    per = used / max(taken - taken_before, 1) * 1e5
    print(f"RESULT fleet CPU: {per:.2f} CPU s a 100,000 messages, {used / wall:.2f} cores with rules and sampler; broker {broker_used / wall:.2f} cores")
    quarter = max(len(resident) // 4, 1)
    first, last = statistics.median(resident[:quarter]), statistics.median(resident[-quarter:])
    print(f"RESULT fleet memory of {DEVICES} devices: {idle:.1f} MB at the start, {first:.1f} MB in the first quarter, {last:.1f} MB in the last, "
          f"peak {peak:.1f} MB, of it history {history:.1f} MB")
    if last > BUDGET_MB:
        failures.append(f"memory is above {BUDGET_MB} MB")
    if last > first * 1.03 + 1:
        failures.append("memory grew")
    if taken < float(sent["sent"]):
        failures.append(f"{float(sent['sent']) - taken:.0f} messages were lost")
    for failure in failures:
        print(f"FAILED {failure}")
    sys.exit(bool(failures))


main()
