//! Looking at messages, and sending one again that was looked at.

use super::{
    super::{
        clock::StoreTime,
        row::{QueueKey, StoreFault},
        search::{PeekSearch, StoreGlance},
    },
    StoreRules,
};
use sandhog_queue::{
    SendError, SentAgain,
    message::{Message, MessageId},
    peek::PeekScope,
};

/// The number of messages that one step looks at.
const STEP: usize = 256;
/// A step looks at no further message once those before have this many bytes: others wait for it.
const STEP_BYTES: usize = 1024 * 1024;

impl StoreRules {
    /// Returns what a search needs to know, once what time has ended is in the rows.
    pub(crate) fn glance(&mut self, key: QueueKey, now: StoreTime) -> Result<StoreGlance, StoreFault> {
        self.expire(key, now)?;
        let named = self.queues.iter().filter(|(_, queue)| !queue.is_retired());
        Ok(StoreGlance {
            now,
            last_seq: self.last_seq(),
            names: named.map(|(key, queue)| (*key, queue.name.clone())).collect(),
        })
    }

    /// Goes on with a search for a bounded number of messages and of bytes. A message that exceeds the bytes is looked at if room was
    /// left, so that every step makes progress.
    pub(crate) fn look_at_some(&mut self, search: &mut PeekSearch) -> Result<(), StoreFault> {
        let (after, last) = search.rest();
        let queue = search.queue;
        let places: Vec<_> = match search.request.scope {
            PeekScope::Messages => {
                let metas = self.rows.following(queue, after, STEP)?;
                metas.into_iter().map(|meta| meta.seq).collect()
            }
            PeekScope::DeadLetters => {
                let letters = match search.request.filter.only_id() {
                    Some(id) => self
                        .rows
                        .dead_with_id(queue, &MessageId::from_queue(id))?
                        .into_iter()
                        .collect(),
                    None => self.rows.dead(queue, after, STEP)?,
                };
                let places = letters.into_iter().map(|letter| letter.seq);
                places.filter(|seq| *seq > after).collect()
            }
        };
        let is_last_step = places.len() < STEP;
        let mut bytes = 0_usize;
        for seq in places {
            if seq > last {
                search.reach_end();
            }
            if search.is_done() || bytes >= STEP_BYTES {
                return Ok(());
            }
            let wanted = self.rows.meta(seq)?.is_some_and(|meta| search.wants(meta.state));
            let stored = if wanted { self.rows.fetch(seq)? } else { None };
            match stored {
                Some(stored) => {
                    let message = stored.content.as_ref().ok().map(|content| &content.message);
                    bytes = bytes.saturating_add(message.map_or(0, Message::size));
                    let id = message.map_or_else(|| MessageId::from_queue(""), |message| message.id.clone());
                    search.look_at(id, stored);
                }
                None => search.pass(seq),
            }
        }
        if is_last_step {
            search.reach_end();
        }
        Ok(())
    }

    /// Takes in a message that was made from another one, in the place of that one if it is a dead letter that the message replaces.
    pub(crate) fn send_again(
        &mut self,
        key: QueueKey,
        again: SentAgain,
        now: StoreTime,
    ) -> Result<Result<Option<MessageId>, SendError>, StoreFault> {
        let SentAgain {
            message,
            parent,
            replaces,
        } = again;
        let name = self.queue(key).name.clone();
        if self.queue(key).is_retired() {
            return Ok(Err(SendError::NoSuchQueue(name)));
        }
        let mut replaced = None;
        if replaces {
            let letter = self.rows.dead_with_id(key, &parent)?;
            let meta = match letter {
                Some(letter) => self.rows.meta(letter.seq)?,
                None => None,
            };
            replaced = match meta {
                Some(meta) => self.free(meta, now)?,
                None => None,
            };
            if replaced.is_none() {
                return Ok(Ok(None));
            }
        }
        if let Some(limit) = self.overfull(key, 1, now)? {
            return Ok(Err(SendError::Full { queue: name, limit }));
        }
        if let Some(meta) = replaced {
            self.remove(&meta)?;
        }
        let sent = self.send_made_from(key, message, &parent, now)?;
        Ok(Ok(Some(sent.id)))
    }
}

#[cfg(test)]
mod tests {
    use sandhog_queue::{
        machine_clock::MachineClock,
        message::{Outgoing, QueueName},
        message_filter::{FilterClause, FilterField, MessageFilter, TextRelation},
        peek::PeekRequest,
    };
    use tokio::time::Instant;

    use super::{
        super::super::{memory::MemoryRows, processed::ProcessedMessageSettings, settings::Settings},
        *,
    };

    /// Sends messages of so many bytes, and returns how many each step of a search looks at that finds none.
    fn steps(sizes: &[usize]) -> Vec<usize> {
        let settings = ProcessedMessageSettings::default();
        let mut rules = StoreRules::new(MemoryRows::default(), false, settings, MachineClock::default());
        let rules = rules.with_any_rows();
        let now = rules.tick(Instant::now());
        let name = QueueName::new("orders").unwrap();
        let key = rules.declare(&name, Settings::defaults(&name)).unwrap().key;
        for size in sizes {
            let message = Outgoing::new(vec![b'x'; *size]).check().unwrap();
            rules.send(key, message, now).unwrap().unwrap();
        }
        let needle = FilterClause::Text {
            field: FilterField::Body,
            relation: TextRelation::Contains,
            value: "needle".to_owned(),
        };
        let request = PeekRequest {
            scope: PeekScope::Messages,
            filter: MessageFilter::new(vec![needle]).unwrap(),
            after: None,
            limit: 10,
            body_limit: None,
        };
        let mut search = PeekSearch::new(key, request, rules.glance(key, now).unwrap());
        let mut steps = Vec::new();
        while !search.is_done() {
            let before = search.looked_at();
            rules.look_at_some(&mut search).unwrap();
            steps.push(search.looked_at() - before);
        }
        steps
    }

    #[test]
    fn a_step_of_a_search_is_bounded_in_messages_and_in_bytes() {
        assert_eq!(steps(&[10; 600]), [256, 256, 88]);
        assert_eq!(steps(&[300_000; 6]), [4, 2]);
        assert_eq!(steps(&[STEP_BYTES; 3]), [1, 1, 1]);
        assert_eq!(steps(&[10, STEP_BYTES, 10]), [2, 1]);
    }
}
