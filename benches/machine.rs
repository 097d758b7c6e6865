//! What the machine is, and where its CPU time goes. Read from /proc: zeros if there is none.

use std::fs::{read_dir, read_to_string};
use std::process::{Command, id};
use std::time::Duration;

/// The kernel fixes this for /proc on all common platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds since each of them started.
#[derive(Clone, Copy)]
pub struct CpuTime {
    pub service: f64,
    pub postgres: f64,
    /// This process, and pgbench once it has ended.
    pub generator: f64,
    /// Of everything on this machine.
    pub all: f64,
}

/// Resident memory of a process.
#[derive(Clone, Copy)]
pub struct Memory {
    pub now_mb: f64,
    pub peak_mb: f64,
}

impl CpuTime {
    pub fn now(service: u32, postmaster: u32) -> Self {
        Self {
            service: ticks(service, 2) / TICKS_PER_SECOND,
            postgres: server_ticks(postmaster) / TICKS_PER_SECOND,
            generator: ticks(id(), 4) / TICKS_PER_SECOND,
            all: machine_ticks() / TICKS_PER_SECOND,
        }
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            service: self.service - before.service,
            postgres: self.postgres - before.postgres,
            generator: self.generator - before.generator,
            all: self.all - before.all,
        }
    }

    /// What others did on this machine: if it is more than a little, figures say little.
    pub fn others(self) -> f64 {
        (self.all - self.service - self.postgres - self.generator).max(0.0)
    }
}

impl Memory {
    pub fn of(process: u32) -> Self {
        let [now_mb, peak_mb] = ["VmRSS:", "VmHWM:"].map(|name| status_mb(process, name));
        Self { now_mb, peak_mb }
    }
}

/// Whether a process has memory in huge pages that were set aside for such.
pub fn has_huge_pages(process: u32) -> bool {
    status_mb(process, "HugetlbPages:") > 0.0
}

fn status_mb(process: u32, name: &str) -> f64 {
    let status = read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, number) / 1024.0
}

pub fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// Cores, memory and kernel in one line.
pub fn description() -> String {
    let kernel = Command::new("uname").arg("-sr").output();
    let kernel = kernel.map_or_else(|_| Vec::new(), |output| output.stdout);
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).map_or(0.0, number);
    let memory_gb = memory / f64::from(1 << 20);
    let kernel = String::from_utf8_lossy(&kernel);
    format!("{} cores, {memory_gb:.0} GB memory, {}", cores(), kernel.trim())
}

/// Waits until little runs on this machine, for ten seconds at most.
pub async fn wait_until_quiet() {
    for _ in 0..20 {
        let before = machine_ticks();
        tokio::time::sleep(Duration::from_millis(500)).await;
        // A tenth of a core.
        if machine_ticks() - before <= 0.05 * TICKS_PER_SECOND {
            return;
        }
    }
}

/// The postmaster's own, those of its children, and of those that ended.
fn server_ticks(postmaster: u32) -> f64 {
    let names = read_dir("/proc").into_iter().flatten().flatten();
    let processes = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children = processes.filter(|process| fields(*process).get(1) == Some(&postmaster.into()));
    ticks(postmaster, 4) + children.map(|child| ticks(child, 2)).sum::<f64>()
}

/// User and system time, then those of children that ended.
fn ticks(process: u32, fields_len: usize) -> f64 {
    fields(process).iter().skip(11).take(fields_len).sum()
}

/// /proc/[pid]/stat after the name, which may hold blanks: the state, the parent, ...
fn fields(process: u32) -> Vec<f64> {
    let stat = read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').map(number).collect()
}

/// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
fn machine_ticks() -> f64 {
    let stat = read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_ascii_whitespace();
    let busy = fields.skip(1).take(8).enumerate().filter(|(n, _)| ![3, 4].contains(n));
    busy.map(|(_, ticks)| number(ticks)).sum()
}

fn number(text: &str) -> f64 {
    text.split_ascii_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}
