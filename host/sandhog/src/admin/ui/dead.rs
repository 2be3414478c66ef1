//! The dead letters of a queue: by reason, chosen by boxes or by a filter, put back or deleted.

use std::collections::BTreeMap;

use axum::{
    Extension,
    extract::{RawQuery, State},
    response::Response,
};
use maud::{Markup, html};

use super::{
    UiState,
    form::FormPairs,
    inside::{path, with_query},
    layout::{Frame, page as framed, token},
    queue::{PREVIEW, head, preview},
    queue_actions::page_of,
    replay::ReplayOffer,
    sessions::UiCaller,
    shown::{count, foreign, number, short, when},
};
use crate::admin::{
    parameters::Path,
    refused::RefusedRequest,
    wire::{DeadLetterList, MessageForm, QueueForm},
};
use sandhog_queue::message::QueueName;

/// The dead letters of a page.
const LETTERS: &str = "100";
/// The length of a line that is worth a filter for all that have it anywhere, in bytes.
const TELLING_BYTES: usize = 8;
/// The most reasons that are named.
const MOST_REASONS: usize = 12;
/// A filter that every dead letter passes. A page without a filter has no cursor.
const ALL: &str = "id != \"\"";

/// Shows the page.
pub(super) async fn page(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, RefusedRequest> {
    let asked = FormPairs::of_query(query.as_deref())?;
    let queue: QueueForm = state.inside.get(&caller, &path(&["queues", &name])).await?;
    let letters = letters(&state, &caller, &name, &asked).await?;
    let offer = ReplayOffer::of(&state, &caller, &name).await?;
    let place = page_of(&name);
    let frame = Frame::of(&caller, &format!("{name}, dead letters"));
    let is_remote = state.is_remote(&name);
    let frame = if is_remote { frame } else { frame.live() };
    let main = html! {
        (head(&queue, &place, "dead"))
        @if is_remote {
            p.dim { "This kind of queue shows its dead letters by receiving them for a moment, so this page does not update itself." }
        } @else {
            (search(&asked, &place))
        }
        section #letters data-part {
            (reasons(&letters, &place))
            @if letters.dead_letters.is_empty() {
                p.empty { @if asked.text("where").is_some() { "No dead letter passes." } @else { "No dead letters." } }
            } @else if caller.may_change() {
                form method="post" action={ (place) "/dead/redrive" } {
                    (token(&caller))
                    input type="hidden" name="where" value=(asked.or_empty("where"));
                    (buttons(&asked, queue.dead, &place))
                    @if let Some(offer) = &offer { (offer.part(&place, asked.text("where").is_some())) }
                    (table(&letters, &place, true))
                }
            } @else {
                (table(&letters, &place, false))
            }
            (pages(&letters, &asked, &place))
        }
    };
    Ok(framed(&frame.with_notice(state.notice(query.as_deref())), main))
}

impl UiState {
    /// Returns the filter of a form, or the one that every dead letter passes. `None` for a remote queue, which knows no filter.
    pub(super) fn dead_filter<'f>(&self, name: &str, asked: &'f FormPairs) -> Option<&'f str> {
        asked.text("where").or_else(|| (!self.is_remote(name)).then_some(ALL))
    }

    /// Returns whether each look at a queue costs, and may hide its messages.
    pub(super) fn is_remote(&self, name: &str) -> bool {
        let queue = QueueName::new(name).ok().and_then(|name| self.admin.queues.get(&name));
        queue.is_some_and(|queue| queue.capabilities().calls_cost)
    }
}

async fn letters(
    state: &UiState,
    caller: &UiCaller,
    name: &str,
    asked: &FormPairs,
) -> Result<DeadLetterList, RefusedRequest> {
    let filter = state.dead_filter(name, asked);
    let pairs = [
        ("limit", LETTERS),
        ("body-limit", PREVIEW),
        ("where", filter.unwrap_or_default()),
        // A page without a filter is the only one.
        ("cursor", filter.map_or("", |_| asked.or_empty("after"))),
    ];
    let target = path(&["queues", name, "dead"]);
    state.inside.get(caller, &with_query(&target, &pairs)).await
}

fn search(asked: &FormPairs, place: &str) -> Markup {
    html! {
        form.filter method="get" action={ (place) "/dead" } data-search role="search" aria-label="Dead letters" {
            label { "Filter" input type="search" name="where" value=(asked.or_empty("where")) maxlength="4000" autocomplete="off" placeholder="reason ~ \"timeout\" and age > 1h"; }
            button type="submit" { "Search" }
            span.bad data-why role="status" {}
        }
    }
}

/// The reasons that one filter finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ReasonGroup<'r> {
    /// This one.
    Is(&'r str),
    /// Those that have this line: a field of one line holds no more of them.
    Contains(&'r str),
}

impl<'r> ReasonGroup<'r> {
    fn of(reason: &'r str) -> Self {
        // A browser keeps neither in a field.
        let mut lines = reason.split(['\n', '\r', '\0']);
        let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
        if first.len() == reason.len() {
            Self::Is(reason)
        } else {
            Self::Contains(first)
        }
    }

    /// Returns whether its filter finds little else: a short line is in very many reasons.
    fn is_telling(self) -> bool {
        match self {
            Self::Is(_) => true,
            Self::Contains(line) => line.trim().len() >= TELLING_BYTES,
        }
    }

    /// Returns the filter of those that failed in this way.
    fn filter(self, kind: &str) -> String {
        let (relation, text) = match self {
            Self::Is(text) => ("=", text),
            Self::Contains(text) => ("~", text),
        };
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("kind = {kind} and reason {relation} \"{quoted}\"")
    }

    fn shown(self) -> Markup {
        html! {
            @match self {
                Self::Is(text) => (short(text, 200)),
                Self::Contains(line) => { span.dim { "contains " } (short(line, 200)) }
            }
        }
    }
}

/// Returns the reasons of the dead letters of this page, each with the filter that finds those with it.
fn reasons(letters: &DeadLetterList, place: &str) -> Markup {
    let mut reasons: BTreeMap<(&str, ReasonGroup<'_>), u64> = BTreeMap::new();
    for failure in letters.dead_letters.iter().filter_map(|letter| letter.failure.as_ref()) {
        let group = ReasonGroup::of(&failure.reason);
        *reasons.entry((failure.kind.as_str(), group)).or_default() += 1;
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    html! {
        @if reasons.len() > 1 {
            details.fold #reasons open {
                summary { "By reason" @if letters.more { span.dim { ", of those on this page" } } }
                table { tbody { @for ((kind, group), many) in reasons.iter().take(MOST_REASONS) { tr {
                    td.num { (number(*many)) }
                    td {
                        @if group.is_telling() {
                            a href=(with_query(&format!("{place}/dead"), &[("where", &group.filter(kind))])) { span.pill.bad { (kind) } " " (group.shown()) }
                        } @else {
                            span.pill.bad { (kind) } " " (group.shown())
                        }
                    }
                } } } }
            }
        }
    }
}

fn buttons(asked: &FormPairs, dead: u64, place: &str) -> Markup {
    let all = if asked.text("where").is_some() {
        "all that pass the filter".to_owned()
    } else {
        format!("all {}", number(dead))
    };
    html! {
        div.actions {
            button type="submit" name="scope" value="selected" { "Redrive selected" }
            button.danger type="submit" name="scope" value="selected" formaction={ (place) "/dead/delete" } { "Delete selected …" }
            button type="submit" name="scope" value="all" { "Redrive " (all) " …" }
            button.danger type="submit" name="scope" value="all" formaction={ (place) "/dead/delete" } { "Delete " (all) " …" }
        }
    }
}

fn table(letters: &DeadLetterList, place: &str, with_boxes: bool) -> Markup {
    html! {
        table.rows {
            thead { tr {
                @if with_boxes { th { input type="checkbox" data-all aria-label="All on this page"; } }
                th { "message" } th { "why" } th.w2 { "dead" } th.num.w2 { "receives" } th.w3 { "handler" } th.w2 { "body" }
            } }
            tbody { @for letter in &letters.dead_letters { (row(letter, place, with_boxes)) } }
        }
    }
}

fn row(letter: &MessageForm, place: &str, with_boxes: bool) -> Markup {
    html! {
        tr data-row {
            @if with_boxes { td { input type="checkbox" name="id" value=(letter.id) aria-label={ "Select " (letter.id) }; } }
            td { a.mono href={ (place) (path(&["dead", &letter.id])) } { (short(&letter.id, 40)) } }
            td { @if let Some(failure) = &letter.failure { span.pill.bad { (failure.kind.as_str()) } " " (foreign(&failure.reason)) } }
            td.w2 { @if let Some(at) = letter.dead_at_ms { (when(at)) } }
            td.num.w2 { (count(u64::from(letter.receive_count))) }
            td.w3 { @if let Some(failure) = &letter.failure { (short(&failure.handler, 60)) } }
            td.w2 { span.preview { (preview(letter.body.as_deref(), letter.body_base64.as_deref())) } }
        }
    }
}

fn pages(letters: &DeadLetterList, asked: &FormPairs, place: &str) -> Markup {
    let filter = asked.or_empty("where");
    let at = |after: &str| with_query(&format!("{place}/dead"), &[("where", filter), ("after", after)]);
    html! {
        div.pages {
            @if asked.text("after").is_some() { a href=(at("")) { "First page" } }
            @if let Some(next) = &letters.next { a href=(at(next)) rel="next" { "Next page" } }
            @else if letters.more { span.dim { "There are more than this kind of queue shows." } }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::filter_text::parse_filter;
    use sandhog_queue::{
        FailureKind, FailureRecord,
        message::Attributes,
        message_filter::{FilterSubject, MessageStanding},
    };

    #[test]
    fn a_reason_becomes_a_filter_that_finds_it_whatever_is_in_it() {
        let near = |reason: &str, other: &str| {
            let filter = ReasonGroup::of(reason).filter("trap");
            assert!(!filter.contains(['\n', '\r', '\0']), "{filter:?}");
            let filter = parse_filter(&filter).unwrap();
            let failure = FailureRecord {
                kind: FailureKind::Trap,
                reason: other.to_owned(),
                handler: String::new(),
                component: String::new(),
            };
            filter.passes(&FilterSubject {
                standing: MessageStanding::Ready,
                id: "1",
                group: None,
                attributes: &Attributes::default(),
                body: b"",
                failure: Some(&failure),
                origin: None,
                age: Duration::ZERO,
            })
        };
        for reason in [
            "timeout",
            "a \"quoted\" \\ text",
            "and age > 1h",
            "",
            "it panicked: left != right\n  left: 1\n right: 2",
            "\n\nlate",
            "one\r\ntwo",
            "zero\0",
        ] {
            assert!(near(reason, reason), "{reason:?}");
        }
        assert!(!near("timeout", "timeout of another kind"));
        assert!(near("it panicked: a\nb", "it panicked: a\nc") && !near("it panicked: a\nb", "it panicked: b\nb"));
        assert!(parse_filter(ALL).is_ok());
    }

    #[test]
    fn a_group_says_whether_it_is_the_reason_or_a_part_of_it() {
        let shown = |reason| ReasonGroup::of(reason).shown().into_string();
        assert_eq!(shown("late"), "<bdi>late</bdi>");
        assert_eq!(
            shown("late\nvery"),
            "<span class=\"dim\">contains </span><bdi>late</bdi>"
        );
        assert_eq!(ReasonGroup::of("late\nvery"), ReasonGroup::of("late\na little"));
        assert_ne!(ReasonGroup::of("late"), ReasonGroup::of("late\nvery"));
    }
}
