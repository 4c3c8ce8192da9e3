//! What does this process take of its machine, and what does it leave to others? Read from /proc, where there is one.

/// The lowest priority that Linux knows.
#[cfg(target_os = "linux")]
const NICE_MAX: i32 = 19;

/// Anonymous resident memory in bytes: heap and stacks, not mapped files. 0 where the system does not say.
pub fn anonymous_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status").map_or(0, |status| status_kilobytes(&status, "RssAnon:") * 1024)
}

/// Gives the calling thread, and no other, the lowest priority; for good, since the system takes no priority back. Nothing
/// happens where only whole processes have one.
pub fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE_MAX) {
        tracing::debug!(%error, "this thread keeps its priority");
    }
}

fn status_kilobytes(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_read_and_a_missing_one_is_zero() {
        let status = "VmRSS:\t  100 kB\nRssAnon:\t   42 kB\n";
        assert_eq!(status_kilobytes(status, "RssAnon:"), 42);
        assert_eq!(status_kilobytes(status, "RssShmem:"), 0);
    }
}
