"""200,000 JSON messages over 5,000 topics at QoS 1 as fast as mosquitto (its default queue) takes them, interleaved: a
bare rumqttc counter, our ingest over MQTT 3.1.1 and 5, and Debian's prometheus-mqtt-exporter (mqtt2prometheus). Each is a
process of its own; compared are CPU seconds a 100,000 messages received, and what was lost.

usage: benches/mqtt.py [MESSAGES [DEVICES]]      (ROUNDS=5 in the environment)
"""
import subprocess
import sys

from support import ROUNDS, Workspace, bench_program, compare, cpu, get, mosquitto, mqtt_exporter, samples, settle, stop

MESSAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
DEVICES = int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
PEER = "mqtt2prometheus"
SUBJECTS = ["counter", "ours-v3", "ours-v5", PEER]


def measure(program, directory, subject):
    broker, port = mosquitto(directory)
    publish = [program, "publish", str(port), str(MESSAGES), str(DEVICES)]
    if subject == PEER:
        exporter, web = mqtt_exporter(directory, port)
        page = f"http://127.0.0.1:{web}/metrics"
        before = cpu(exporter)
        subprocess.run(publish, check=True)
        settle(exporter, lambda: 0, MESSAGES)
        used = cpu(exporter) - before
        received = samples(get(page), "received_messages")
        stop(exporter)
    else:
        mode = "count" if subject == "counter" else subject
        child = subprocess.Popen([program, mode, *publish[2:]], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        subprocess.run(publish, check=True)
        fields = dict(part.split("=") for part in child.stdout.readline().split())
        child.wait()
        received, used = float(fields["received"]), float(fields["cpu_s"])
    stop(broker)
    return used / received * 1e5, MESSAGES - received


def main():
    program = bench_program("mqtt")
    cpu_runs, lost = {subject: [] for subject in SUBJECTS}, {subject: [] for subject in SUBJECTS}
    with Workspace() as workspace:
        for number in range(1, ROUNDS + 1):
            for subject in SUBJECTS:
                used, missing = measure(program, workspace.name, subject)
                cpu_runs[subject].append(used)
                lost[subject].append(int(missing))
                print(f"round {number} {subject}: {used:.3f} CPU s a 100,000, lost {int(missing)}", flush=True)
    for ours in ("ours-v3", "ours-v5"):
        compare("mqtt ingest of 100,000", "CPU s", cpu_runs, ours, "counter", 1.5)
        compare("mqtt ingest of 100,000", "CPU s", cpu_runs, ours, PEER)
    for subject in SUBJECTS:
        print(f"RESULT mqtt lost of {MESSAGES}: {subject} {lost[subject]}")


main()
