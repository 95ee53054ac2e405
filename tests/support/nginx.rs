//! A real nginx with TLS that can be stopped, frozen and given another certificate or page.

use super::{Process, free_port, wait_for, wait_for_port};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub struct Nginx {
    pub port: u16,
    dir: PathBuf,
    process: Option<Process>,
}

impl Nginx {
    /// Serves `dir/html/index.html` over TLS with `certificate` (file, key).
    pub fn start(dir: &Path, certificate: &(PathBuf, PathBuf), page: &str) -> Nginx {
        std::fs::create_dir_all(dir.join("html")).expect("a writable directory");
        let mut nginx = Nginx { port: free_port(), dir: dir.to_path_buf(), process: None };
        nginx.page(page);
        nginx.configure(certificate);
        nginx.resume();
        nginx
    }

    pub fn page(&self, text: &str) {
        std::fs::write(self.dir.join("html/index.html"), text).expect("a writable directory");
    }

    pub fn configure(&self, (certificate, key): &(PathBuf, PathBuf)) {
        let dir = self.dir.display();
        let config = format!(
            "worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log; daemon off;\n\
             user root; events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; \
             fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5; keepalive_timeout 0;\n\
             server {{ listen 127.0.0.1:{} ssl; ssl_certificate {}; ssl_certificate_key {}; root {dir}/html; \
             default_type \"text/html; charset=utf-8\"; }} }}\n",
            self.port,
            certificate.display(),
            key.display()
        );
        std::fs::write(self.dir.join("nginx.conf"), config).expect("a writable directory");
    }

    /// Starts it again after [`Nginx::stop`].
    pub fn resume(&mut self) {
        let child = Command::new("/usr/sbin/nginx")
            .arg("-c")
            .arg(self.dir.join("nginx.conf"))
            .arg("-p")
            .arg(&self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        self.process = Some(Process(child));
        wait_for_port("nginx", self.port);
    }

    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.signal("TERM");
        let _ = process.0.wait();
    }

    /// Freezes master and workers: the kernel still accepts connections, then nobody answers.
    pub fn freeze(&self, frozen: bool) {
        let Some(process) = &self.process else { return };
        let name = if frozen { "STOP" } else { "CONT" };
        for worker in self.workers(process.0.id()) {
            super::signal(worker, name);
        }
        process.signal(name);
    }

    fn workers(&self, master: u32) -> Vec<u32> {
        wait_for("nginx's workers", Duration::from_secs(5), || {
            let path = format!("/proc/{master}/task/{master}/children");
            let pids: Vec<u32> =
                std::fs::read_to_string(path).ok()?.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            (!pids.is_empty()).then_some(pids)
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.freeze(false);
        self.stop();
    }
}
