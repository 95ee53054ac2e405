#!/usr/bin/env python3
"""CPU of one HTTPS check (full TLS 1.3 handshake, CA verified), ours beside blackbox_exporter's.

usage: benches/probe.py OUR_BENCH_BINARY [RUNS]

An nginx of its own on 127.0.0.1 serves one page; each run makes 2,000 checks at concurrency 16 with either program, in
turns. CPU is user + system time from /proc/PID/stat. Prints one JSON line a run and a summary with the medians and
their ratio. Needs nginx, openssl and prometheus-blackbox-exporter.
"""
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

CHECKS, CONCURRENCY = 2000, 16


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make_certificates(directory):
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
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
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(port)
    return process, f"https://127.0.0.1:{port}/"


def start_blackbox(directory):
    port = free_port()
    with open(f"{directory}/blackbox.yml", "w") as config:
        tls = f"{{ca_file: {directory}/ca.pem}}"
        config.write(f"modules: {{http_2xx: {{prober: http, timeout: 5s, http: {{preferred_ip_protocol: ip4, tls_config: {tls}}}}}}}\n")
    command = ["prometheus-blackbox-exporter", f"--config.file={directory}/blackbox.yml"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(port)
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

    before, begin = cpu_seconds(process.pid), time.time()
    threads = [threading.Thread(target=work) for _ in range(CONCURRENCY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"probes": CHECKS, "ok": len(good), "cpu_s": cpu_seconds(process.pid) - before, "wall_s": round(time.time() - begin, 3)}


def run_ours(binary, url, ca_file):
    command = [binary, url, ca_file, str(CHECKS), str(CONCURRENCY)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    binary, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    started, cpu = [], {"ioc-watch": [], "blackbox_exporter": []}
    with tempfile.TemporaryDirectory() as directory:
        try:
            # nginx started by root serves as another user, who must come to the page.
            os.chmod(directory, 0o755)
            make_certificates(directory)
            nginx, url = start_nginx(directory)
            started.append(nginx)
            blackbox, port = start_blackbox(directory)
            started.append(blackbox)
            for _ in range(runs):
                for name in cpu:
                    ours = name == "ioc-watch"
                    result = run_ours(binary, url, f"{directory}/ca.pem") if ours else run_blackbox(blackbox, port, url)
                    if result["ok"] != CHECKS:
                        sys.exit(f"{name}: only {result['ok']} of {CHECKS} checks were ok")
                    cpu[name].append(result["cpu_s"] / CHECKS * 1000)
                    print(json.dumps({"program": name, **result}), flush=True)
        finally:
            for process in started:
                process.terminate()
                process.wait()
    ours, peer = (statistics.median(cpu[name]) for name in cpu)
    print(f"probe: {ours:.3f} ms CPU a check, blackbox_exporter {peer:.3f} ms, ratio {ours / peer:.2f}")


if __name__ == "__main__":
    main()
