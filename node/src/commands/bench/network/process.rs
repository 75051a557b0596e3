//! What processes of this machine use.

use std::fs;
use std::time::Instant;

use super::super::super::error::{CommandError, Explain as _};

/// Clock ticks a second in `/proc/PID/stat` (proc(5)): 100 on Linux, whatever the kernel counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time of all its threads.
    cpu_seconds: f64,
    /// Memory that it holds now.
    pub resident_bytes: u64,
    read: Instant,
}

impl Usage {
    /// What each of these processes has used.
    ///
    /// # Errors
    /// If one is not there, or this system has no `/proc`.
    pub fn of_all(pids: &[u32]) -> Result<Vec<Self>, CommandError> {
        pids.iter().map(|pid| Self::of(*pid)).collect()
    }

    /// Processor time per time since an earlier reading: 100 is one core.
    pub fn percent_since(&self, before: &Self) -> f64 {
        let time = (self.read - before.read).as_secs_f64();
        if time > 0.0 { 100.0 * (self.cpu_seconds - before.cpu_seconds).max(0.0) / time } else { 0.0 }
    }

    fn of(pid: u32) -> Result<Self, CommandError> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path)
                .context(|| format!("cannot read {path}"))
                .hint(|| "give --pid the id of a process that runs, on Linux")
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let parsed = cpu_ticks(&stat).zip(resident_bytes(&status));
        let (ticks, resident_bytes) = parsed
            .ok_or_else(|| CommandError::failed(format!("/proc/{pid} does not say what proc(5) says it does")))?;
        Ok(Self { cpu_seconds: ticks as f64 / TICKS_PER_SECOND, resident_bytes, read: Instant::now() })
    }
}

/// User and system time of `/proc/PID/stat`. The second field, the name, may hold spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11).map(|field| field.parse::<u64>().ok());
    fields.next()??.checked_add(fields.next()??)
}

/// `VmRSS` of `/proc/PID/status`, which is in kB.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 900 0 0 0 150 25 0 0 20 0 9 0 100 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(175));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        assert_eq!(resident_bytes("VmHWM:\t 90 kB\nVmRSS:\t   80 kB\n"), Some(80 * 1024));
        assert_eq!(resident_bytes("VmHWM:\t 90 kB\n"), None);
    }
}
