//! The tutorials: their commands, run as printed in two terminals, lead to what the pages say, and the code that they show is that
//! of the projects.

use std::{fs, path::Path};

use harness::wait_for;

use crate::readme::{Block, Terminal, between, blocks, page, programs, use_the_host};

/// A page for one language, and the language beside it that it describes in a section of its own.
struct Tutorial {
    page: &'static str,
    /// The language that `sandhog new` gets, and the file with the handler.
    project: (&'static str, &'static str),
    /// The same of the other language.
    other: Option<(&'static str, &'static str)>,
}

const JAVASCRIPT: Tutorial = Tutorial {
    page: "docs/tutorials/javascript.md",
    project: ("javascript", "handler.js"),
    other: Some(("typescript", "handler.ts")),
};
const PYTHON: Tutorial = Tutorial {
    page: "docs/tutorials/python.md",
    project: ("python", "app.py"),
    other: None,
};
const GO: Tutorial = Tutorial {
    page: "docs/tutorials/go.md",
    project: ("go", "main.go"),
    other: None,
};
const C: Tutorial = Tutorial {
    page: "docs/tutorials/c.md",
    project: ("c", "handler.c"),
    other: Some(("cpp", "handler.cpp")),
};

impl Tutorial {
    /// The page of the first language, and the section about the other one.
    fn parts(&self) -> (String, String) {
        let text = page(self.page);
        match text.split_once("\n## In ") {
            Some((first, other)) => (first.to_owned(), other.to_owned()),
            None => (text, String::new()),
        }
    }

    fn works_as_printed(&self) {
        let (text, _) = self.parts();
        let shown = blocks(&text);
        let shown = shown.iter().filter(|block| block.language != "sh");
        run(&text, shown, self.project.1);
    }

    /// As the page says: another language, another file, everything else the same.
    fn works_in_the_other_language(&self) {
        let (text, section) = self.parts();
        let (language, file) = self.other.unwrap();
        assert!(section.contains(&format!("Begin with `sandhog new {language} checkout`")));
        let text = text
            .replace(&format!("new {} ", self.project.0), &format!("new {language} "))
            .replace(self.project.1, file);
        let manifest = blocks(&text).into_iter().filter(|block| block.language == "toml");
        let shown: Vec<_> = blocks(&section).into_iter().chain(manifest).collect();
        run(&text, shown.iter(), file);
    }
}

/// Compares what a page shows of a project with the project.
fn compare<'b>(project: &Path, shown: impl Iterator<Item = &'b Block>, file: &str) {
    let mut compared = 0;
    for Block { language, text } in shown {
        let file = if language == "toml" { "checkout.toml" } else { file };
        let found = fs::read_to_string(project.join(file)).unwrap();
        assert!(found.contains(text.as_str()), "{file} does not have:\n{text}");
        compared += 1;
    }
    assert_eq!(compared, 2, "a page shows the handler and its manifest");
}

/// Types the commands of a page.
fn run<'b>(text: &str, shown: impl Iterator<Item = &'b Block>, file: &str) {
    // A sentence may go over the end of a line.
    let prose = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shells: Vec<_> = blocks(text)
        .into_iter()
        .filter(|block| block.language == "sh")
        .collect();
    let [first, second, change] = shells.as_slice() else {
        panic!("a tutorial has {} blocks of commands", shells.len());
    };
    let (place, programs) = (tempfile::tempdir().unwrap(), programs());
    let mut terminal = Terminal::open_with_tools(place.path(), programs.path(), None);
    let lines = first.lines();
    let (last, lines) = lines.split_last().unwrap();
    for line in lines {
        terminal.run(line);
    }
    compare(&place.path().join("checkout"), shown, file);
    let url = terminal.run_host(last);
    wait_for("the handler to serve", || {
        terminal.screen().contains("serving").then_some(())
    });

    let reason = between(&prose, "why the handler rejected it: `", "`");
    let mut other = Terminal::open_with_tools(place.path(), programs.path(), Some(&url));
    use_the_host(&mut other, second, reason);
    let logged = between(&prose, "The first terminal logs `", "`");
    wait_for(logged, || terminal.screen().contains(logged).then_some(()));

    for line in change.lines() {
        let printed = other.run(line);
        if line == "sandhog versions checkout" && !printed.contains("probation") {
            wait_for("version 2 to serve", || {
                other.run(line).contains("probation").then_some(())
            });
        }
    }
    let logged = between(&prose, "From then on the first terminal logs `", "`");
    wait_for(logged, || terminal.screen().contains(logged).then_some(()));
    terminal.press_ctrl_c();
}

#[test]
fn the_tutorial_for_javascript_works_as_printed() {
    JAVASCRIPT.works_as_printed();
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_tutorial_for_javascript_works_in_typescript() {
    JAVASCRIPT.works_in_the_other_language();
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_tutorial_for_python_works_as_printed() {
    PYTHON.works_as_printed();
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_tutorial_for_go_works_as_printed() {
    GO.works_as_printed();
}

#[test]
fn the_tutorial_for_c_works_as_printed() {
    C.works_as_printed();
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_tutorial_for_c_works_in_cpp() {
    C.works_in_the_other_language();
}
