//! Archives that are no whole backup, and directories that are not free.

use super::*;

fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(text.len()).unwrap());
        // The library writes no name that leaves its place.
        let bytes = &mut header.as_old_mut().name;
        bytes.get_mut(..name.len()).unwrap().copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn fill(place: &Path, archive: &[u8]) -> Result<BackupFacts, CliError> {
    UnfinishedBackup::begin(place)?.fill(|| Ok::<_, BackupError>(archive))
}

const WHOLE: &str =
    r#"{"format":1,"made-by":"sandhog 0.1.0","made-at-ms":1,"messages":7,"bytes":7,"longest-step-us":3}"#;

#[test]
fn a_directory_is_whole_or_not_there() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("monday");
    let whole = archive(&[
        ("queues.db", "hello"),
        ("versions/a/history.json", "{}"),
        (FACTS, WHOLE),
    ]);
    for cut in [0, 100, 600, 1024, 2000, 2600] {
        let error = fill(&target, whole.get(..cut).unwrap()).unwrap_err();
        assert!(matches!(error, CliError::Backup(BackupError::Cut(_))), "{cut}: {error}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{cut}");
    }
    assert_eq!(fill(&target, &whole).unwrap().messages, 7);
    assert_eq!(
        fs::read_to_string(target.join("versions/a/history.json")).unwrap(),
        "{}"
    );
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn what_the_host_could_not_do_is_said_in_its_words() {
    let place = tempfile::tempdir().unwrap();
    let error = fill(
        &place.path().join("monday"),
        &archive(&[(FAILED, "the disk is full\u{1b}[2J")]),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("the disk is full") && !error.to_string().contains('\u{1b}'),
        "{error}"
    );
}

#[test]
fn no_archive_writes_outside_of_its_directory() {
    let place = tempfile::tempdir().unwrap();
    for name in ["../evil", "/tmp/evil", "a/../../evil"] {
        let error = fill(&place.path().join("monday"), &archive(&[(name, "ha"), (FACTS, WHOLE)])).unwrap_err();
        assert!(
            matches!(error, CliError::Backup(BackupError::Foreign(_))),
            "{name}: {error}"
        );
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn a_directory_that_is_in_use_is_left_alone_and_an_empty_one_is_filled() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("monday");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine"), "").unwrap();
    let error = fill(&target, &archive(&[(FACTS, WHOLE)])).unwrap_err();
    assert!(error.to_string().contains("not an empty directory"), "{error}");
    fs::remove_file(target.join("mine")).unwrap();
    fill(&target, &archive(&[("queues.db", "1234567"), (FACTS, WHOLE)])).unwrap();
    assert!(target.join(FACTS).exists());
}

/// Fills a directory with an archive of five bytes that says this about itself, and returns why it is refused.
fn refused(facts: &str) -> BackupError {
    let place = tempfile::tempdir().unwrap();
    let error = fill(
        &place.path().join("monday"),
        &archive(&[("queues.db", "hello"), (FACTS, facts)]),
    );
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    let CliError::Backup(error) = error.unwrap_err() else {
        panic!("no error of a backup")
    };
    error
}

#[test]
fn a_backup_of_a_form_that_is_not_known_is_refused_by_the_name_of_who_made_it() {
    let error = refused(r#"{"format":2,"made-by":"sandhog 7.0.0","parts":[]}"#);
    assert!(matches!(error, BackupError::OtherForm { form: 2, .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("use `sandhog backup` of the host's version, sandhog 7.0.0"),
        "{error}"
    );
}

#[test]
fn a_backup_with_more_or_less_than_the_host_has_copied_is_refused() {
    for said in [4, 6] {
        let error = refused(&WHOLE.replace("\"bytes\":7", &format!("\"bytes\":{said}")));
        assert_eq!(
            error.to_string(),
            format!(
                "the host has copied {said} bytes, and 5 came: its files changed meanwhile, so make the backup again"
            )
        );
    }
}
