#!/usr/bin/env python3
"""CPU of one HTTPS check (full TLS 1.3 handshake, CA verified), ours beside blackbox_exporter's.

usage: benches/probe.py [RUNS]

An nginx of its own on 127.0.0.1 serves one page, with an RSA-2048 certificate and with an ECDSA P-256 one; each run makes
2,000 checks at concurrency 16 with either program, in turns. CPU is user + system time from /proc/PID/stat. Prints one JSON line a run and a summary with the medians and
their ratio. Needs nginx, openssl and prometheus-blackbox-exporter.
"""
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse

from support import ROUNDS, Workspace, bench_program, compare, cpu, free_port, start, wait_port

CHECKS, CONCURRENCY = 2000, 16
KEYS = {"RSA-2048": "-newkey rsa:2048 -nodes", "ECDSA P-256": "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"}
PEER = "blackbox_exporter"


def make_certificates(directory, key):
    with open(f"{directory}/names", "w") as names:
        names.write("subjectAltName=IP:127.0.0.1\n")
    for command in (
        f"openssl req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=bench-ca",
        f"openssl req {key} -keyout server.key -out server.csr -subj /CN=bench",
        "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    ):
        subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)


def start_nginx(directory):
    port = free_port()
    os.mkdir(f"{directory}/www")
    with open(f"{directory}/www/index.html", "w") as page:
        page.write("<html><body>" + "portal page " * 160 + "</body></html>\n")
    temp = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(f"{directory}/nginx.conf", "w") as config:
        config.write(
            f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.err;\n"
            "events { worker_connections 512; }\n"
            f"http {{ access_log off; default_type text/html; {temp}\n"
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {directory}/server.pem;\n"
            f"ssl_certificate_key {directory}/server.key; ssl_protocols TLSv1.3; root {directory}/www; }} }}\n"
        )
    command = ["nginx", "-e", f"{directory}/nginx.err", "-c", f"{directory}/nginx.conf"]
    process = start(command)
    wait_port(port)
    return f"https://127.0.0.1:{port}/"


def start_blackbox(directory):
    port = free_port()
    with open(f"{directory}/blackbox.yml", "w") as config:
        tls = f"{{ca_file: {directory}/ca.pem}}"
        config.write(f"modules: {{http_2xx: {{prober: http, timeout: 5s, http: {{preferred_ip_protocol: ip4, tls_config: {tls}}}}}}}\n")
    command = ["prometheus-blackbox-exporter", f"--config.file={directory}/blackbox.yml"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    process = start(command)
    wait_port(port)
    return process, port


def run_blackbox(process, port, url):
    path = "/probe?module=http_2xx&target=" + urllib.parse.quote(url, safe="")
    numbers, lock, good = iter(range(CHECKS)), threading.Lock(), []

    def work():
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while True:
            with lock:
                if next(numbers, None) is None:
                    return
            client.request("GET", path)
            if b"\nprobe_success 1" in client.getresponse().read():
                good.append(1)

    before, begin = cpu(process), time.time()
    threads = [threading.Thread(target=work) for _ in range(CONCURRENCY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"probes": CHECKS, "ok": len(good), "cpu_s": cpu(process) - before, "wall_s": round(time.time() - begin, 3)}


def run_ours(binary, url, ca_file):
    command = [binary, url, ca_file, str(CHECKS), str(CONCURRENCY)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    binary = bench_program("probe")
    with Workspace() as workspace:
        subjects = {}
        for number, (name, key) in enumerate(KEYS.items()):
            directory = workspace.fresh(f"key-{number}")
            make_certificates(directory, key)
            url = start_nginx(directory)
            subjects[name] = (url, f"{directory}/ca.pem", *start_blackbox(directory))
        runs = {name: {"ioc-watch": [], PEER: []} for name in KEYS}
        for number in range(1, rounds + 1):
            for key, (url, ca_file, blackbox, port) in subjects.items():
                for name, cpu_ms in runs[key].items():
                    ours = name == "ioc-watch"
                    result = run_ours(binary, url, ca_file) if ours else run_blackbox(blackbox, port, url)
                    if result["ok"] != CHECKS:
                        sys.exit(f"{name}: only {result['ok']} of {CHECKS} checks were ok")
                    cpu_ms.append(result["cpu_s"] / CHECKS * 1000)
                    print(f"round {number} {key} {name}: {json.dumps(result)}", flush=True)
    for key, values in runs.items():
        compare(f"probe {key}", "ms CPU", values, "ioc-watch", PEER, 0.4)


if __name__ == "__main__":
    main()
