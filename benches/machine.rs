//! What the machine is, and where its CPU time goes. Read from /proc: zeros where there is none.

use std::fs::read_to_string;
use std::process::{Command, id};

/// Clock ticks a second: the kernel's interface to /proc fixes them on all common platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds since each of them started.
#[derive(Clone, Copy, Default)]
pub struct CpuTime {
    pub service: f64,
    pub postgres: f64,
    pub generator: f64,
    /// Of everything on this machine.
    pub all: f64,
}

/// Resident memory of a process, in MB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    pub now_mb: f64,
    pub peak_mb: f64,
}

impl CpuTime {
    pub fn now(service: u32, postmaster: u32) -> Self {
        Self {
            service: process_seconds(service, false),
            postgres: process_seconds(postmaster, true),
            generator: process_seconds(id(), false),
            all: machine_seconds(),
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

    /// What others did on this machine meanwhile: more than a little, and the run says nothing.
    pub fn others(self) -> f64 {
        (self.all - self.service - self.postgres - self.generator).max(0.0)
    }
}

impl Memory {
    pub fn of(process: u32) -> Self {
        let status = read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let mb = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(0.0, |value| number(value) / 1024.0)
        };
        Self { now_mb: mb("VmRSS:"), peak_mb: mb("VmHWM:") }
    }
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Cores, memory and kernel in one line.
pub fn description() -> String {
    let kernel = Command::new("uname").arg("-sr").output();
    let kernel = kernel.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).map_or(0.0, number);
    let memory_gb = memory / f64::from(1 << 20);
    format!("{} cores, {memory_gb:.0} GB memory, {}", cores(), kernel.unwrap_or_default())
}

fn process_seconds(process: u32, with_children: bool) -> f64 {
    let mut ticks = 0.0;
    let stat = |process: u32| read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name, which may hold blanks: state, parent, ... utime, stime, cutime, cstime.
    let fields = |stat: &str| -> Vec<f64> {
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').map(number).collect()
    };
    let own = fields(&stat(process));
    let ended_children = if with_children { 2 } else { 0 };
    ticks += own.iter().skip(11).take(2 + ended_children).sum::<f64>();
    if with_children {
        let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let processes = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for fields in processes.map(|child| fields(&stat(child))) {
            if fields.get(1) == Some(&f64::from(process)) {
                ticks += fields.iter().skip(11).take(2).sum::<f64>();
            }
        }
    }
    ticks / TICKS_PER_SECOND
}

/// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
fn machine_seconds() -> f64 {
    let stat = read_to_string("/proc/stat").unwrap_or_default();
    let cpu = stat.lines().next().unwrap_or_default();
    let fields = cpu.split_ascii_whitespace().skip(1).take(8).enumerate();
    let busy = fields.filter(|(n, _)| ![3, 4].contains(n)).map(|(_, ticks)| number(ticks));
    busy.sum::<f64>() / TICKS_PER_SECOND
}

fn number(text: &str) -> f64 {
    text.split_ascii_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}
