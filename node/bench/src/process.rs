//! What processes of this machine use.

use std::fs;
use std::time::Instant;

use ocelli_program::error::{CommandError, Explain as _};

/// Clock ticks a second in `/proc/PID/stat` (proc(5)): 100 on Linux, whatever the kernel counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time of all its threads.
    pub cpu_seconds: f64,
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

    /// What a process has used.
    ///
    /// # Errors
    /// If it is not there, or this system has no `/proc`.
    pub fn of(pid: u32) -> Result<Self, CommandError> {
        let pid = pid.to_string();
        let parsed = OWN.ticks(&read(&pid, "stat")?).zip(resident_bytes(&read(&pid, "status")?));
        let (ticks, resident_bytes) = parsed.ok_or_else(|| unreadable(&pid))?;
        Ok(Self { cpu_seconds: ticks as f64 / TICKS_PER_SECOND, resident_bytes, read: Instant::now() })
    }
}

/// Processor time of all processes that this one has started and waited for.
///
/// # Errors
/// If this system has no `/proc`.
pub fn cpu_seconds_of_ended_children() -> Result<f64, CommandError> {
    let ticks = ENDED_CHILDREN.ticks(&read("self", "stat")?).ok_or_else(|| unreadable("self"))?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

fn read(pid: &str, name: &str) -> Result<String, CommandError> {
    let path = format!("/proc/{pid}/{name}");
    fs::read_to_string(&path).context(|| format!("cannot read {path}")).hint(|| "the process has to run, on Linux")
}

fn unreadable(pid: &str) -> CommandError {
    CommandError::failed(format!("/proc/{pid} does not say what proc(5) says it does"))
}

/// Where `/proc/PID/stat` has user time, with system time after it; counted from the field after the name.
struct Times(usize);
const OWN: Times = Times(11);
const ENDED_CHILDREN: Times = Times(13);

impl Times {
    /// User and system time. The second field, the name, may hold spaces and parentheses.
    fn ticks(&self, stat: &str) -> Option<u64> {
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ').skip(self.0).map(|field| field.parse::<u64>().ok());
        fields.next()??.checked_add(fields.next()??)
    }
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
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 900 0 0 0 150 25 60 7 20 0 9 0 100 1 2 3";
        assert_eq!((OWN.ticks(stat), ENDED_CHILDREN.ticks(stat)), (Some(175), Some(67)));
        assert_eq!(OWN.ticks("7 (a) S 1"), None);
        assert_eq!(resident_bytes("VmHWM:\t 90 kB\nVmRSS:\t   80 kB\n"), Some(80 * 1024));
        assert_eq!(resident_bytes("VmHWM:\t 90 kB\n"), None);
    }
}
