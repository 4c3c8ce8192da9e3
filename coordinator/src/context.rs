//! What every request needs: the map, a way to call shards, embedders, a clock's limits.

use std::sync::Arc;
use std::time::Duration;

use granum_model::RequestId;
use granum_proto::limits::{Invalid, TIMEOUT_MS_MAX};
use granum_proto::status::Failure;
use granum_proto::{ids, v1};
use tokio::time::Instant;

use crate::embedders::Embedders;
use crate::map::store::Store;
use crate::map::{Collection, ShardMap};
use crate::metrics::Metrics;
use crate::route::call::{Budget, Caller};

/// Shared by all requests of a coordinator.
pub(crate) struct Context {
    pub store: Arc<Store>,
    pub caller: Arc<Caller>,
    pub embedders: Embedders,
    pub metrics: Arc<Metrics>,
    pub default_timeout: Duration,
    pub default_shards: u32,
}

impl Context {
    /// The collection of that name, if it can be asked and written.
    pub async fn collection(&self, name: &str, deadline: Instant) -> Result<Arc<Collection>, Failure> {
        self.find(deadline, |map| map.usable(name).cloned()).await
    }

    /// Finds something in the map. Refused only on a map read from the register after the call: another coordinator may
    /// have made it a moment ago.
    pub async fn find<T>(
        &self,
        deadline: Instant,
        find: impl Fn(&ShardMap) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Ok(found) = find(&*self.store.map()?) {
            return Ok(found);
        }
        self.store.refresh(deadline).await?;
        find(&*self.store.map()?)
    }

    /// What a request says about itself, or the defaults.
    pub fn budget(&self, info: Option<&v1::RequestInfo>) -> Result<Budget, Failure> {
        let none = v1::RequestInfo::default();
        let info = info.unwrap_or(&none);
        if info.timeout_ms > TIMEOUT_MS_MAX {
            let problem = format!("{}, at most {TIMEOUT_MS_MAX}", info.timeout_ms);
            return Err(Invalid::new("info.timeout_ms", problem).into());
        }
        let timeout = match info.timeout_ms {
            0 => self.default_timeout,
            timeout_ms => Duration::from_millis(timeout_ms),
        };
        let request_id = ids::request_id(&info.request_id).map_err(|error| error.within("info"))?;
        Ok(Budget {
            request_id: request_id.unwrap_or_else(new_request_id),
            deadline: Instant::now() + timeout,
        })
    }
}

/// A name for a request that brought none.
pub(crate) fn new_request_id() -> RequestId {
    RequestId(*uuid::Uuid::new_v4().as_bytes())
}
