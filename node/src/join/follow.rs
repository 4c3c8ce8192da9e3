//! How does a node learn where the others are? It follows their prefix of the register, here or at a node that holds it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use granum_proto::internal::{NodeRecord, RegisterEvents, RegisterWatchRequest};
use granum_proto::status::{self, Failure};
use prost::Message;

use super::{ANSWER_TIMEOUT, Joining, NODES_PREFIX, answer, client, node_key};
use crate::holdings::Register;

impl Joining {
    /// Follows `nodes/`, from this node's replica of the register or another's, until that ends.
    pub(super) async fn follow(&self) -> Result<(), Failure> {
        if let Some(register) = self.holdings.register() {
            self.follow_here(&register).await;
            return Ok(());
        }
        let mut failed = Failure::Unavailable("no node that could hold the register is known".into());
        for address in self.addresses(self.register_leader.load(Ordering::Relaxed)) {
            let request = RegisterWatchRequest {
                prefixes: vec![NODES_PREFIX.into()],
                from_revision: 0,
            };
            match answer(&address, client(&address)?.watch(request)).await {
                Ok(mut events) => {
                    while let Some(event) = events.message().await.map_err(|refused| status::failure(&refused))? {
                        self.take(event);
                    }
                    return Ok(());
                }
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    async fn follow_here(&self, register: &Arc<Register>) {
        let mut revisions = register.machine.revisions();
        let mut from = 0;
        loop {
            revisions.borrow_and_update();
            let events = register.machine.events_since(&[NODES_PREFIX.to_owned()], from);
            from = events.revision;
            self.take(events);
            let changed = tokio::time::timeout(ANSWER_TIMEOUT, revisions.changed()).await;
            let same = self
                .holdings
                .register()
                .is_some_and(|held| Arc::ptr_eq(&held, register));
            if !same || matches!(changed, Ok(Err(_))) {
                return;
            }
        }
    }

    pub(super) fn take(&self, events: RegisterEvents) {
        let mine = self.record().node;
        for entry in events.puts {
            match NodeRecord::decode(entry.value) {
                Ok(record) if node_key(record.node) == entry.key && record.node != mine => {
                    self.book.learn(record);
                }
                Ok(_) => {}
                Err(error) => tracing::error!(key = entry.key, %error, "a node's record can't be read"),
            }
        }
        for key in events.deletes {
            if let Some(node) = key
                .strip_prefix(NODES_PREFIX)
                .and_then(|id| u64::from_str_radix(id, 16).ok())
            {
                self.book.forget(node);
            }
        }
    }
}
