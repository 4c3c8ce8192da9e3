//! The one loop that sends, waits and repeats: who is asked next, when, and with what words it gives up.
//!
//! A repetition carries the request id of the first try, so it is safe for writes too. A connection that broke after a
//! write was sent leaves it unknown whether it happened: if no later try settles it, the caller is told so.

use std::error::Error;
use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use granum_model::RequestId;
use granum_proto::status::{Failure, Retry, failure};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::client::Client;
use crate::v1;

/// First pause before a repetition; each next one is twice as long.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause, and the one after a refusal because there is too much to do.
const BACKOFF_MAX: Duration = Duration::from_millis(1000);
/// A server answers by the deadline it was told; this much later a client stops listening.
const GRACE: Duration = Duration::from_millis(250);

/// Whether a call changes anything.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Effect {
    Read,
    Write,
}

/// A fresh request id.
pub(crate) fn new_request_id() -> RequestId {
    RequestId(rand::random())
}

impl Client {
    /// Sends `message` until it is answered for good. `message` gets what each try says about itself; `send` calls one
    /// coordinator.
    pub(crate) async fn call<M, R, F>(
        &self,
        effect: Effect,
        request_id: RequestId,
        message: impl Fn(v1::RequestInfo) -> M,
        send: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<R, Failure>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let started = Instant::now();
        let deadline = started + self.timeout;
        let mut tries = Tries::new(self, effect, started);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(tries.give_up());
            }
            let info = v1::RequestInfo {
                request_id: request_id.0.to_vec().into(),
                timeout_ms: (left.as_millis() as u64).max(1),
            };
            let mut request = Request::new(message(info));
            request.set_timeout(left + GRACE);
            let coordinator = &self.coordinators()[tries.coordinator];
            match send(coordinator.channel.clone(), request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => match tries.failed(&status, &coordinator.url, self.patience()) {
                    Some(pause) => tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await,
                    None => return Err(tries.give_up()),
                },
            }
        }
    }
}

/// What the tries so far have taught.
struct Tries {
    coordinators: usize,
    /// Who is asked next.
    coordinator: usize,
    effect: Effect,
    started: Instant,
    /// Last time that a coordinator was there at all.
    last_contact: Instant,
    count: u32,
    backoff: Duration,
    /// A try may have been carried out although its answer was lost.
    in_doubt: bool,
    last: Option<Failure>,
}

impl Tries {
    fn new(client: &Client, effect: Effect, now: Instant) -> Self {
        Tries {
            coordinators: client.coordinators().len(),
            coordinator: client.next_turn(),
            effect,
            started: now,
            last_contact: now,
            count: 0,
            backoff: BACKOFF_MIN,
            in_doubt: false,
            last: None,
        }
    }

    /// Takes in a failed try. How long to wait before the next one, or `None` to give up.
    fn failed(&mut self, status: &Status, url: &str, patience: Duration) -> Option<Duration> {
        self.count += 1;
        let sent = !never_sent(status);
        let told = failure(status);
        // A status of our own making says itself whether it happened; a broken connection doesn't. What is not known did not.
        let is_unknown = status.code() == Code::Unimplemented;
        let broken =
            status.details().is_empty() && !is_unknown && !matches!(told, Failure::Invalid(_) | Failure::NotFound(_));
        self.in_doubt |= sent && (broken || matches!(told, Failure::Unknown(_)));
        let (retry, is_busy) = (told.retry(), matches!(told, Failure::Busy(_)));
        self.last = Some(match told {
            Failure::Precondition(why) if is_unknown => Failure::Precondition(format!("{url}: {why}")),
            _ if broken => described(status, url),
            told => told,
        });
        if retry == Retry::Never {
            return None;
        }
        self.coordinator = (self.coordinator + 1) % self.coordinators;
        if sent {
            self.last_contact = Instant::now();
        } else if self.last_contact.elapsed() >= patience {
            return None;
        }
        // The others are asked at once; only a round without success is followed by a pause.
        if (self.count as usize) < self.coordinators {
            return Some(Duration::ZERO);
        }
        let due = if is_busy { BACKOFF_MAX } else { self.backoff };
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        Some(due.mul_f64(rand::random_range(0.5..=1.0)))
    }

    /// The failure to report.
    fn give_up(self) -> Failure {
        let last = self
            .last
            .unwrap_or_else(|| Failure::Unknown("no time was left to ask".into()));
        let tried = match self.count {
            0 | 1 => String::new(),
            count => format!(
                " (tried {count} times in {:.1} s)",
                self.started.elapsed().as_secs_f64()
            ),
        };
        let last = match last {
            Failure::Unknown(text) if self.in_doubt && self.effect == Effect::Write => Failure::Unknown(text + &tried),
            Failure::Unavailable(text) | Failure::Unknown(text) => Failure::Unavailable(text + &tried),
            Failure::Busy(text) => Failure::Busy(text + &tried),
            Failure::Stale(text) => Failure::Stale(text + &tried),
            other => other,
        };
        if self.in_doubt && self.effect == Effect::Write {
            return last.of_a_write_in_doubt();
        }
        last
    }
}

/// Whether the request surely reached nobody: the connection was never made.
fn never_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            let kind = io.kind();
            return matches!(
                kind,
                ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
            );
        }
        if error.to_string().contains("dns error") || error.to_string().contains("tcp connect error") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What a broken connection looks like from here, in words: whom, and the innermost cause.
fn described(status: &Status, url: &str) -> Failure {
    let mut cause = status.message().to_owned();
    let mut next: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = next {
        cause = error.to_string();
        next = error.source();
    }
    let text = match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => format!("{url}: no answer in time"),
        _ => format!("{url}: {cause}"),
    };
    match failure(status) {
        Failure::Unknown(_) => Failure::Unknown(text),
        Failure::Busy(_) => Failure::Busy(text),
        Failure::Fault(_) => Failure::Fault(text),
        _ => Failure::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(effect: Effect, in_doubt: bool, last: Option<Failure>) -> Tries {
        let now = Instant::now();
        Tries {
            coordinators: 1,
            coordinator: 0,
            effect,
            started: now,
            last_contact: now,
            count: 2,
            backoff: BACKOFF_MIN,
            in_doubt,
            last,
        }
    }

    #[test]
    fn a_call_that_is_not_known_has_not_happened_and_says_where() {
        let mut tries = tries(Effect::Write, false, None);
        let pause = tries.failed(&Status::unimplemented(""), "http://10.0.0.1:6333", Duration::MAX);
        assert_eq!(pause, None, "asking again is of no use");
        let told = tries.give_up();
        assert!(
            matches!(&told, Failure::Precondition(why) if why.starts_with("http://10.0.0.1:6333: this call is not known")),
            "{told:?}"
        );
    }

    #[test]
    fn who_is_refused_as_busy_everywhere_does_not_come_again_at_once() {
        let pause = |failure: Failure| {
            let mut tries = tries(Effect::Read, false, None);
            tries
                .failed(&failure.into(), "http://10.0.0.1:6333", Duration::MAX)
                .unwrap()
        };
        assert!(pause(Failure::Busy("full".to_owned())) >= BACKOFF_MAX / 2);
        assert!(pause(Failure::Stale("behind".to_owned())) <= BACKOFF_MIN);
    }

    #[test]
    fn a_write_in_doubt_is_never_told_as_one_that_has_not_happened() {
        let told = |effect, in_doubt, last| tries(effect, in_doubt, Some(last)).give_up();
        let why = || "why".to_owned();
        for last in [
            Failure::ReadOnly(why()),
            Failure::Busy(why()),
            Failure::Stale(why()),
            Failure::Fault(why()),
            Failure::Unavailable(why()),
        ] {
            let doubted = told(Effect::Write, true, last.clone());
            assert!(matches!(doubted, Failure::Unknown(_)), "{last:?}: {doubted:?}");
            let settled = told(Effect::Write, false, last.clone());
            assert!(!matches!(settled, Failure::Unknown(_)), "{last:?}: {settled:?}");
            assert!(!matches!(told(Effect::Read, true, last), Failure::Unknown(_)));
        }
    }
}
