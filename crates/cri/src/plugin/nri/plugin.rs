//! One plugin that is connected.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prost::Message;

use super::connection::{self, Connection};
use super::wire::{
    ConfigureRequest, ConfigureResponse, Container, ContainerUpdate, Empty, Event, PLUGIN_SERVICE,
    PodSandbox, StateChangeEvent, SynchronizeRequest, SynchronizeResponse, VERSION,
};
use crate::contract::Error;

/// What goes with pods and containers in a message, and what ttrpc puts around it: well below what they may have together.
const ROOM: usize = shim::protocol::MAX_PAYLOAD - (64 << 10);

/// A plugin.
#[derive(Debug)]
pub(super) struct Plugin {
    /// `10-name`: plugins are called in this order.
    pub(super) name: String,
    pub(super) connection: Connection,
    /// The bits of the events that it wants.
    events: i32,
    timeout: Duration,
    /// It is asked one thing at a time, as every runtime does.
    turn: tokio::sync::Mutex<()>,
    /// It knows [`StateChange`](StateChangeEvent) alone.
    old: AtomicBool,
}

impl Plugin {
    /// Says who the node is to a plugin that has registered, and hears what it wants.
    pub(super) async fn configure(
        name: String,
        connection: Connection,
        config: String,
        [registration, timeout]: [Duration; 2],
    ) -> Result<Self, String> {
        let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let request = ConfigureRequest {
            config,
            runtime_name: "sextant".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            registration_timeout: milliseconds(registration),
            request_timeout: milliseconds(timeout),
            nri_version: VERSION.into(),
        };
        let answer = connection.call(PLUGIN_SERVICE, "Configure", &request, timeout).await;
        let ConfigureResponse { events } = answer.map_err(|e| format!("cannot configure it: {e}"))?;
        if events & !Event::ALL != 0 {
            return Err(format!(
                "it wants events {:#x}, which NRI {VERSION} does not have",
                events & !Event::ALL
            ));
        }
        let events = if events == 0 { Event::ALL } else { events };
        Ok(Self {
            name,
            connection,
            events,
            timeout,
            turn: tokio::sync::Mutex::default(),
            old: AtomicBool::new(false),
        })
    }

    /// The bits of the events that it wants.
    pub(super) fn events(&self) -> i32 {
        self.events
    }

    /// Tells it of all pods and containers: what it wants changed.
    pub(super) async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> Result<Vec<ContainerUpdate>, String> {
        let mut messages = split(pods, containers);
        let last = messages.pop().unwrap_or_default();
        for message in messages {
            let answer = self.synchronize_part(&message).await?;
            if !answer.more || !answer.update.is_empty() {
                return Err("it does not understand a list in parts".into());
            }
        }
        Ok(self.synchronize_part(&last).await?.update)
    }

    async fn synchronize_part(&self, message: &SynchronizeRequest) -> Result<SynchronizeResponse, String> {
        let answer = self.connection.call(PLUGIN_SERVICE, "Synchronize", message, self.timeout).await;
        answer.map_err(|e| format!("cannot tell it what there is: {e}"))
    }

    /// Asks it, if it wants the event: nothing if it does not, or is gone. An error is its own.
    pub(super) async fn ask<A: Message + Default>(
        &self,
        event: Event,
        request: &impl Message,
    ) -> Result<Option<A>, Error> {
        if self.events & event.bit() == 0 {
            return Ok(None);
        }
        let _turn = self.turn.lock().await;
        let answer = self.connection.call(PLUGIN_SERVICE, event.method(), request, self.timeout).await;
        self.sort(event, answer)
    }

    /// Tells it, if it wants the event, by the method that it has for it.
    pub(super) async fn tell(
        &self,
        event: Event,
        request: &impl Message,
        pod: &PodSandbox,
        container: Option<&Container>,
    ) -> Result<(), Error> {
        if self.events & event.bit() == 0 {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        if !self.old.load(Ordering::Relaxed) {
            let told =
                self.connection.call::<Empty>(PLUGIN_SERVICE, event.method(), request, self.timeout).await;
            match told {
                Err(error) if error.is_unimplemented() => self.old.store(true, Ordering::Relaxed),
                told => return self.sort(event, told).map(drop),
            }
        }
        let change =
            StateChangeEvent { event: event.into(), pod: Some(pod.clone()), container: container.cloned() };
        let told = self.connection.call::<Empty>(PLUGIN_SERVICE, "StateChange", &change, self.timeout).await;
        self.sort(event, told).map(drop)
    }

    /// A plugin that is gone has no say. What it refuses is refused.
    fn sort<A>(&self, event: Event, answer: Result<A, connection::Error>) -> Result<Option<A>, Error> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(connection::Error::Gone(_)) => Ok(None),
            Err(error @ connection::Error::TooLong(_)) => {
                self.connection.close(&error.to_string());
                Ok(None)
            }
            Err(connection::Error::Refused(status)) => Err(Error::internal(format!(
                "NRI plugin {:?} refuses {}: {}",
                self.name,
                event.method(),
                status.message
            ))),
        }
    }
}

/// As few messages as hold all of it; there is always one.
fn split(pods: Vec<PodSandbox>, containers: Vec<Container>) -> Vec<SynchronizeRequest> {
    let mut messages = vec![SynchronizeRequest::default()];
    let mut filled = 0;
    let mut room_for = |length: usize, messages: &mut Vec<SynchronizeRequest>| {
        // A tag and a length before it.
        filled += length + 8;
        if filled > ROOM && filled != length + 8 {
            filled = length + 8;
            if let Some(full) = messages.last_mut() {
                full.more = true;
            }
            messages.push(SynchronizeRequest::default());
        }
    };
    for pod in pods {
        room_for(pod.encoded_len(), &mut messages);
        messages.last_mut().map(|message| message.pods.push(pod)).unwrap_or_default();
    }
    for container in containers {
        room_for(container.encoded_len(), &mut messages);
        messages.last_mut().map(|message| message.containers.push(container)).unwrap_or_default();
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_one_message_goes_in_several() {
        assert_eq!(split(vec![], vec![]), [SynchronizeRequest::default()]);
        let big = |id: usize| Container {
            id: id.to_string(),
            args: vec!["x".repeat(100_000)],
            ..Container::default()
        };
        let pods = vec![PodSandbox { id: "p".into(), ..PodSandbox::default() }];
        let messages = split(pods, (0..100).map(big).collect());
        assert_eq!(messages.len(), 3);
        assert!(messages.iter().all(|m| m.encoded_len() <= ROOM));
        let more: Vec<bool> = messages.iter().map(|m| m.more).collect();
        assert_eq!(more, [true, true, false]);
        let ids: Vec<String> =
            messages.iter().flat_map(|m| m.containers.iter().map(|c| c.id.clone())).collect();
        assert_eq!(ids, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(messages[0].pods.len(), 1);
    }
}
