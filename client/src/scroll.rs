//! All documents of a collection by id: page by page, or one by one as a stream.

use std::collections::VecDeque;

use futures::stream::{self, Stream};
use granum_model::{DocId, Filter};
use granum_proto::status::Failure;
use granum_proto::{convert, v1};

use crate::call::{Effect, new_request_id};
use crate::client::Client;
use crate::document::{Id, StoredDocument};
use crate::error::SearchError;
use crate::read_level::ReadLevel;
use crate::search::{all_payload, all_vectors, on_wire, read_documents, search};

/// Documents a page holds unless told otherwise.
const PAGE_DEFAULT: u32 = 1000;

impl Client {
    /// All documents of a collection by id, page by page.
    pub fn scroll(&self, collection: impl Into<String>) -> Scroll {
        let request = v1::ScrollRequest {
            collection: collection.into(),
            limit: PAGE_DEFAULT,
            with_payload: Some(all_payload()),
            ..Default::default()
        };
        Scroll {
            client: self.clone(),
            request,
            ended: false,
        }
    }
}

/// A walk over a collection by id: page by page, or document by document as a stream.
#[derive(Clone, Debug)]
pub struct Scroll {
    client: Client,
    request: v1::ScrollRequest,
    ended: bool,
}

impl Scroll {
    /// Only documents that the filter lets through.
    pub fn only(mut self, filter: &Filter) -> Self {
        self.request.filter = on_wire(filter);
        self
    }

    /// Begins at this id.
    pub fn from(mut self, id: impl Into<Id>) -> Self {
        self.request.offset = Some(id.into().0);
        self
    }

    /// Documents a page, 1..=10,000; 1,000 unless set.
    pub fn page_documents(mut self, documents: u32) -> Self {
        self.request.limit = documents;
        self
    }

    /// Leaves the payload away.
    pub fn without_payload(mut self) -> Self {
        self.request.with_payload = None;
        self
    }

    /// Documents come with all their vectors.
    pub fn with_vectors(mut self) -> Self {
        self.request.with_vectors = Some(all_vectors());
        self
    }

    /// How fresh each page must be.
    pub fn read(mut self, level: ReadLevel) -> Self {
        self.request.read = Some(level.into_wire());
        self
    }

    /// The next page; `None` after the last one. A page that failed may be asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<StoredDocument>>, SearchError> {
        if self.ended {
            return Ok(None);
        }
        let asked = v1::ScrollRequest {
            read: self.request.read.clone().or_else(|| self.client.read_level()),
            ..self.request.clone()
        };
        let message = |info| v1::ScrollRequest {
            info: Some(info),
            ..asked.clone()
        };
        let send = |channel, request| async move { search(channel).scroll(request).await };
        let reply = self.client.call(Effect::Read, new_request_id(), message, send).await?;
        self.client.saw(reply.info.as_ref());
        if reply.next.is_some() && reply.next == self.request.offset {
            let text = "a page of a scroll ends where it began".to_owned();
            return Err(SearchError::Fault(Failure::Fault(text)));
        }
        let page = read_documents(reply.documents)?;
        self.ended = reply.next.is_none();
        self.request.offset = reply.next;
        Ok(Some(page))
    }

    /// Id of the first document that the next page would hold, where that is known.
    pub fn next_id(&self) -> Option<DocId> {
        convert::id::read(self.request.offset.as_ref()).ok()
    }

    /// Document by document; the stream ends with the first failure.
    pub fn stream(self) -> impl Stream<Item = Result<StoredDocument, SearchError>> {
        let state = (self, VecDeque::new());
        stream::try_unfold(state, |(mut scroll, mut page)| async move {
            loop {
                if let Some(document) = page.pop_front() {
                    return Ok(Some((document, (scroll, page))));
                }
                match scroll.next_page().await? {
                    Some(documents) => page.extend(documents),
                    None => return Ok(None),
                }
            }
        })
    }
}
