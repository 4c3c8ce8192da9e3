//! How do messages travel between simulated nodes? Encoded, late, twice, or not at all.
//!
//! One [`Office`] a simulation; each node sends through a [`Messenger`]. Rules say who can't reach whom, and how rough the
//! weather is. A message that is under way when its link is cut is lost; one for a node that is held waits and comes late.
//! What a sender no longer waits for arrives all the same, as bytes in a socket do.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use granum_node::raft::line::{Answer, Courier, Replies};
use granum_node::raft::serve::Inbox;
use granum_proto::internal;
use granum_proto::status::Failure;
use prost::Message;
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use crate::dice::Dice;
use crate::invariants::leaders::Leaders;

/// A transfer whose connection broke is given up after this long, as the connection's keepalive does.
const KEEPALIVE: Duration = Duration::from_secs(6);

/// How messages fare.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Lost, of a thousand.
    pub loss: u64,
    /// Delivered twice, of a thousand.
    pub twice: u64,
    /// Longest delay of a message, in milliseconds.
    pub delay_ms: u64,
    /// (from, to) that nothing passes.
    pub cut: BTreeMap<(u64, u64), u32>,
    /// Nodes that nothing reaches and that reach nobody until they go on.
    pub held: BTreeMap<u64, u32>,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather {
            loss: 2,
            twice: 5,
            delay_ms: 6,
            cut: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }
}

/// What was carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Messages sent, answers among them.
    pub sent: u64,
    /// Of these lost.
    pub lost: u64,
    /// Requests delivered a second time.
    pub twice: u64,
    /// Snapshots that arrived whole.
    pub snapshots: u64,
}

/// Knows where everyone is.
pub struct Office {
    weather: Mutex<Weather>,
    inboxes: Mutex<BTreeMap<u64, (u64, Inbox)>>,
    dice: Mutex<Dice>,
    carried: Mutex<Carried>,
    /// Who led when.
    pub leaders: Leaders,
}

impl Office {
    /// An office without nodes.
    pub fn new(seed: u64) -> Arc<Office> {
        Arc::new(Office {
            weather: Mutex::default(),
            inboxes: Mutex::default(),
            dice: Mutex::new(Dice::new(seed, 0x9057)),
            carried: Mutex::default(),
            leaders: Leaders::default(),
        })
    }

    /// From now on `node` is reached there; messages of its earlier lives go nowhere.
    pub fn plug_in(&self, node: u64, life: u64, inbox: Inbox) {
        self.inboxes.lock().unwrap().insert(node, (life, inbox));
    }

    /// Nobody reaches `node` from now on.
    pub fn unplug(&self, node: u64) {
        self.inboxes.lock().unwrap().remove(&node);
    }

    /// Changes the weather.
    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.weather.lock().unwrap());
    }

    /// What was carried so far.
    pub fn carried(&self) -> Carried {
        *self.carried.lock().unwrap()
    }

    fn roll(&self, often: impl FnOnce(&Weather) -> u64) -> bool {
        let often = often(&self.weather.lock().unwrap());
        self.dice.lock().unwrap().permille(often)
    }

    /// Carries something from one place to another (0: a client); whether it arrived.
    pub async fn travel(&self, from: u64, to: u64) -> bool {
        let is_cut = || self.weather.lock().unwrap().cut.contains_key(&(from, to));
        self.carried.lock().unwrap().sent += 1;
        let lost = self.roll(|weather| weather.loss) || is_cut();
        if !lost {
            let longest = self.weather.lock().unwrap().delay_ms;
            let delay = self.dice.lock().unwrap().millis(0, longest.max(1));
            tokio::time::sleep(delay).await;
            while self.holds(from) || self.holds(to) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let lost = lost || is_cut();
        self.carried.lock().unwrap().lost += u64::from(lost);
        !lost
    }

    fn holds(&self, node: u64) -> bool {
        self.weather.lock().unwrap().held.contains_key(&node)
    }

    fn lives(&self, node: u64, life: u64) -> bool {
        self.inboxes
            .lock()
            .unwrap()
            .get(&node)
            .is_some_and(|(now, _)| *now == life)
    }

    fn inbox(&self, node: u64) -> Option<(u64, Inbox)> {
        self.inboxes.lock().unwrap().get(&node).cloned()
    }
}

/// Carries the messages of one life of a node.
#[derive(Clone)]
pub struct Messenger {
    /// Where.
    pub office: Arc<Office>,
    /// Whose.
    pub node: u64,
    /// Which life of it.
    pub life: u64,
}

impl fmt::Debug for Messenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "messenger of node {}", self.node)
    }
}

fn again<T: Message + Default>(message: &T) -> T {
    T::decode(message.encode_to_vec().as_slice()).unwrap()
}

impl Messenger {
    fn exchange<Q, A, S, F>(&self, to: u64, message: Q, serve: S) -> Answer<A>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        S: Fn(Inbox, Q) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A, Failure>> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let this = self.clone();
        tokio::spawn(async move {
            if let Some(answer) = this.deliver(to, message, serve).await {
                // Who no longer waits needs no answer.
                let _ = sender.send(answer);
            }
        });
        Box::pin(async move {
            match receiver.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        })
    }

    /// `None`: the message or its answer was lost.
    async fn deliver<Q, A, S, F>(&self, to: u64, message: Q, serve: S) -> Option<Result<A, Status>>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        S: Fn(Inbox, Q) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A, Failure>> + Send + 'static,
    {
        let office = &self.office;
        if !office.lives(self.node, self.life) || !office.travel(self.node, to).await {
            return None;
        }
        let Some((life, inbox)) = office.inbox(to) else {
            return Some(Err(Status::unavailable("nobody is there")));
        };
        if office.roll(|weather| weather.twice) {
            office.carried.lock().unwrap().twice += 1;
            let (repeated, inbox) = (serve(inbox.clone(), again(&message)), inbox.clone());
            let delay = office.dice.lock().unwrap().millis(0, 50);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = repeated.await;
                drop(inbox);
            });
        }
        let answer = serve(inbox, again(&message)).await;
        if !office.lives(to, life) || !office.travel(to, self.node).await {
            return None;
        }
        Some(answer.map(|answer| again(&answer)).map_err(Status::from))
    }
}

impl Courier for Messenger {
    fn append(&self, to: u64, message: internal::RaftAppendRequest) -> Answer<internal::RaftAppendResponse> {
        if let Some(vote) = message.vote.filter(|_| self.office.lives(self.node, self.life)) {
            self.office.leaders.saw(vote.term, vote.replica);
        }
        self.exchange(to, message, |inbox, message| async move { inbox.append(message).await })
    }

    fn vote(&self, to: u64, message: internal::RaftVoteRequest) -> Answer<internal::RaftVoteResponse> {
        self.exchange(to, message, |inbox, message| async move { inbox.vote(message).await })
    }

    fn pre_vote(&self, to: u64, message: internal::RaftVoteRequest) -> Answer<internal::RaftVoteResponse> {
        self.exchange(
            to,
            message,
            |inbox, message| async move { inbox.pre_vote(message).await },
        )
    }

    fn transfer_leader(&self, to: u64, message: internal::RaftTransferRequest) -> Answer<()> {
        self.exchange(to, message, |inbox, message| async move {
            inbox.transfer_leader(message).await
        })
    }

    fn request_seal(&self, to: u64, message: internal::RaftSealRequest) -> Answer<()> {
        self.exchange(to, message, |inbox, message| async move {
            inbox.request_seal(message).await
        })
    }

    fn install_snapshot(&self, to: u64, chunks: ReceiverStream<internal::RaftSnapshotChunk>) -> Answer<Replies> {
        let this = self.clone();
        Box::pin(async move {
            let office = &this.office;
            if !office.lives(this.node, this.life) || !office.travel(this.node, to).await {
                return broken().await;
            }
            let Some((life, inbox)) = office.inbox(to) else {
                return Err(Status::unavailable("nobody is there"));
            };
            let replies = inbox.install_snapshot(Box::pin(this.clone().arriving(to, chunks)));
            let replies: Replies = Box::pin(this.answered((to, life), replies));
            Ok(replies)
        })
    }
}

/// The end of a stream whose connection broke.
async fn broken<T>() -> Result<T, Status> {
    tokio::time::sleep(KEEPALIVE).await;
    Err(Status::unavailable("the connection broke"))
}

impl Messenger {
    /// Chunks in order, each after its time; a lost one breaks the stream.
    fn arriving(
        self,
        to: u64,
        chunks: ReceiverStream<internal::RaftSnapshotChunk>,
    ) -> impl Stream<Item = Result<internal::RaftSnapshotChunk, Status>> + Send {
        chunks.then(move |chunk| {
            let this = self.clone();
            async move {
                match this.office.travel(this.node, to).await {
                    true => Ok(again(&chunk)),
                    false => Err(Status::unavailable("the connection broke")),
                }
            }
        })
    }

    /// Replies of `from`, a node in one life of it, each after its time; a lost one breaks the stream.
    fn answered(
        self,
        (from, life): (u64, u64),
        replies: impl Stream<Item = Result<internal::RaftSnapshotReply, Failure>> + Send,
    ) -> impl Stream<Item = Result<internal::RaftSnapshotReply, Status>> + Send {
        replies.then(move |reply| {
            let this = self.clone();
            async move {
                if !this.office.lives(from, life) || !this.office.travel(from, this.node).await {
                    return broken().await;
                }
                let reply = again(&reply.map_err(Status::from)?);
                let is_over = matches!(reply.kind, Some(internal::raft_snapshot_reply::Kind::Vote(_)));
                this.office.carried.lock().unwrap().snapshots += u64::from(is_over);
                Ok(reply)
            }
        })
    }
}
