//! What does this process take of its machine? Read from /proc, where there is one.

/// Anonymous resident memory in bytes: heap and stacks, not mapped files. 0 where the system does not say.
pub fn anonymous_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status").map_or(0, |status| status_kilobytes(&status, "RssAnon:") * 1024)
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
