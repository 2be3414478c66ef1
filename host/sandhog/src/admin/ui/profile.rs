//! The page that says where the processor time of a handler goes: it takes a profile, and shows it as a flame graph and as a table.
//!
//! The page is loaded for as long as samples are taken, [`LONGEST_S`] at most. Whoever goes away before that ends the profile: the listener drops
//! the request with its connection, and with it the request inside, whose turn at the profiler ends by its drop. The next one can have it
//! at once, and nothing else has happened.
//!
//! Invariant: a profile is taken because somebody has asked for it, and never by a page that updates itself.

use axum::{
    Extension,
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use maud::{Markup, html};

use super::{
    UiState,
    flame::{flame_graph, function_table},
    form::FormPairs,
    handler::page_of,
    inside::{path, with_query},
    layout::{Frame, page as framed},
    sessions::UiCaller,
    shown::{foreign, number, of, short},
};
use crate::admin::{
    parameters::Path,
    refused::RefusedRequest,
    wire::{ProfileForm, VersionList},
};

/// The longest time of a profile, in seconds.
const LONGEST_S: u64 = 20;
/// The time of a profile unless somebody types another, in seconds.
const USUAL_S: u64 = 5;

/// Shows the form, and takes a profile if a time is given.
pub(super) async fn page(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, RefusedRequest> {
    let asked = FormPairs::of_query(query.as_deref())?;
    let seconds = seconds(&asked)?;
    let before = calls(&state, &caller, &name).await?;
    let (taken, status) = match seconds {
        None => (html! {}, StatusCode::OK),
        Some(seconds) => match take(&state, &caller, &name, seconds).await {
            Ok(form) => {
                let calls = calls(&state, &caller, &name).await?.saturating_sub(before);
                let bytes = form.stacks.iter().map(|stack| size_of_val(&*stack.functions)).sum();
                let shown = state.work.run(bytes, move || shown(&form, seconds, calls)).await?;
                (shown, StatusCode::OK)
            }
            // Another one is being taken: the form is there for the next try.
            Err(refused) if refused.status() == StatusCode::CONFLICT => {
                let why = html! { p.bad role="alert" { (foreign(&refused.to_string())) } };
                (why, refused.status())
            }
            Err(refused) => return Err(refused),
        },
    };
    let place = page_of(&name);
    let main = html! {
        p.crumbs { a href="/ui" { "Overview" } " / " a href=(place) { (short(&name, 120)) } " / Where the time goes" }
        h1 { "Where the time goes" }
        (ask(&place, seconds.unwrap_or(USUAL_S)))
        (taken)
    };
    let mut answer = framed(&Frame::of(&caller, &format!("{name}, profile")), main);
    *answer.status_mut() = status;
    Ok(answer)
}

/// Returns the time that was asked for, in seconds.
fn seconds(asked: &FormPairs) -> Result<Option<u64>, RefusedRequest> {
    let Some(text) = asked.text("for") else { return Ok(None) };
    let seconds = text
        .trim()
        .parse()
        .ok()
        .filter(|seconds| (1..=LONGEST_S).contains(seconds));
    let wrong = || RefusedRequest::bad(format!("for={text}: use whole seconds from 1 to {LONGEST_S}"));
    seconds.map(Some).ok_or_else(wrong)
}

async fn take(state: &UiState, caller: &UiCaller, name: &str, seconds: u64) -> Result<ProfileForm, RefusedRequest> {
    let time = format!("{seconds}s");
    let target = with_query(&path(&["handlers", name, "profile"]), &[("for", &time)]);
    state.inside.get(caller, &target).await
}

/// Returns how many calls of the handler have ended so far.
async fn calls(state: &UiState, caller: &UiCaller, name: &str) -> Result<u64, RefusedRequest> {
    let target = path(&["handlers", name, "versions"]);
    let list: VersionList = state.inside.get(caller, &target).await?;
    Ok(list.versions.iter().map(|version| version.calls).sum())
}

fn ask(place: &str, seconds: u64) -> Markup {
    html! {
        form.actions method="get" action={ (place) "/profile" } {
            label { "Seconds, 1 to " (LONGEST_S) input type="number" name="for" min="1" max=(LONGEST_S) value=(seconds) required; }
            button.primary type="submit" { "Take samples" }
        }
        p.dim {
            "The host looks for that long at what the handler computes, in calls that are made anyway; they take a little longer meanwhile. "
            "The page takes as long to load: " (of(seconds, "second", "seconds")) " as it stands here. One profile is taken at a time, and leaving the page ends it."
        }
    }
}

/// Returns a profile, or why there is none.
fn shown(form: &ProfileForm, seconds: u64, calls: u64) -> Markup {
    let time = of(seconds, "second", "seconds");
    let these = if seconds == 1 {
        "this second".to_owned()
    } else {
        format!("these {time}")
    };
    html! {
        @if form.samples == 0 && calls == 0 {
            p.empty { "No samples: the handler handled nothing in " (these) "." }
        } @else if form.samples == 0 {
            p.empty {
                "No samples: " (of(calls, "call", "calls")) " ended in " (these) ", and computed next to nothing. "
                "A sample is taken at every " (form.interval_ms.max(1)) " ms in which the handler computes."
            }
        } @else {
            p {
                (of(form.samples, "sample", "samples")) " in " (time) ", one at every " (form.interval_ms.max(1)) " ms in which the handler computed."
                @if form.uncounted > 0 { " " (number(form.uncounted)) " of them are missing below: there were too many different stacks." }
            }
            h2 #graph { "By caller" }
            p.dim { "A frame is as wide as its share of the samples, and stands below the function that called it. Point at one for its whole name." }
            (flame_graph(form))
            h2 #functions { "By function" }
            p.dim { "Self is the share in the function itself, total the share in it and in what it called." }
            (function_table(form))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_lasts_whole_seconds_up_to_twenty() {
        let asked = |text: &str| seconds(&FormPairs::of_query(Some(text)).unwrap());
        assert_eq!(asked("").unwrap(), None);
        assert_eq!((asked("for=1").unwrap(), asked("for=20").unwrap()), (Some(1), Some(20)));
        for wrong in [
            "for=0",
            "for=21",
            "for=5s",
            "for=-1",
            "for=1.5",
            "for=999999999999999999999",
        ] {
            assert!(
                asked(wrong).unwrap_err().to_string().contains("from 1 to 20"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn why_there_are_no_samples_is_said() {
        let form = ProfileForm {
            handler: "in".to_owned(),
            time_ms: 2000,
            interval_ms: 5,
            samples: 0,
            uncounted: 0,
            functions: Vec::new(),
            stacks: Vec::new(),
        };
        let text = |seconds, calls| shown(&form, seconds, calls).into_string();
        assert!(
            text(2, 0).contains("handled nothing in these 2 seconds."),
            "{}",
            text(2, 0)
        );
        assert!(text(1, 0).contains("handled nothing in this second."), "{}", text(1, 0));
        assert!(
            text(2, 3).contains("3 calls ended in these 2 seconds, and computed next to nothing"),
            "{}",
            text(2, 3)
        );
    }
}
