//! Rules change for all of history, while requests run.

use crate::support::{
    Contact, EXACT_FILE, PHONES_ONLY, Seen, Service, TestLedger, command, command_of,
    random_observations, refuses, scratch_dir, succeeds, until_async,
};
use futures_util::future::join_all;
use identity_ledger::identity::{DEFAULT_RULES, EXACT_RULES, Rules};
use identity_ledger::rebuild::{activate, impact, rebuild};
use serde_json::Value;
use sqlx::{AssertSqlSafe, query, query_scalar};
use std::path::Path;
use std::process::Command;

/// Blocks, strips subaddresses, and compares phone numbers exactly.
const OTHER_RULES: &str = r#"
name = "other"
version = 1
[email]
case = "insensitive"
subaddress = "strip"
blocked = ["user3@shop.example", "user1?@*"]
[phone]
format = "exact"
"#;

/// Numbers with and without their country code are one.
const GERMAN_RULES: &str = r#"
name = "german"
version = 1
[email]
case = "insensitive"
[phone]
format = "e164"
default_region = "DE"
"#;

/// As `random_observations`, in many spellings.
fn observations(seed: u64, len: usize) -> Vec<Seen> {
    let mut all = random_observations(seed, len, 60);
    for (n, seen) in all.iter_mut().enumerate() {
        let respelled = seen.email.take().map(|email| match n % 5 {
            0 => email.to_uppercase(),
            1 => email.replace('@', &format!("+{}@", n % 3)),
            _ => email,
        });
        seen.email = respelled;
        if n % 4 == 0 {
            seen.phone_number =
                seen.phone_number.take().map(|number| number.replacen("0", "0 ", 1));
        }
    }
    all
}

/// A ledger that had these rules before its first observation.
async fn with_rules_from_the_start(document: &str, all: &[Seen]) -> Vec<Contact> {
    let ledger = TestLedger::new().await;
    ledger.put_in_force(document).await;
    let service = Service::start(&ledger.url);
    service.observe(all).await;
    ledger.verify().await.unwrap();
    service.contacts(all.len() as i64).await
}

/// What is recorded meanwhile is no part of it, and is not missed.
#[tokio::test]
async fn an_impact_is_shown_while_requests_run() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all = observations(13, 2_000);
    let showing = async {
        for _ in 0..20 {
            let rules = Rules::parse(EXACT_RULES).unwrap();
            impact(&ledger.database, rules).await.unwrap();
        }
    };
    let recording = async {
        loop {
            service.observe(&all).await;
        }
    };
    tokio::select! {
        () = showing => {}
        () = recording => unreachable!("it goes on"),
    }
}

#[tokio::test]
async fn after_an_activation_every_answer_is_as_if_the_rules_had_always_been() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all = observations(11, 400);
    service.observe(&all[..200]).await;
    for (document, seen) in
        [(OTHER_RULES, 200..300), (PHONES_ONLY, 300..350), (EXACT_RULES, 350..400)]
    {
        let rules = Rules::parse(document).unwrap();
        let predicted = impact(&ledger.database, rules).await.unwrap();
        let activated = ledger.put_in_force(document).await.unwrap();
        assert_eq!(predicted.events, activated.events_len, "{}", predicted.to.name);
        assert_eq!(predicted.contacts.after, activated.contacts_len);
        ledger.verify().await.unwrap();
        let so_far = seen.end;
        service.observe(&all[seen]).await;
        ledger.verify().await.unwrap();
        let shown = service.contacts(so_far as i64).await;
        assert_eq!(shown, with_rules_from_the_start(document, &all[..so_far]).await);
    }
    // And back.
    ledger.put_in_force(DEFAULT_RULES).await.unwrap();
    ledger.verify().await.unwrap();
    let back = service.contacts(all.len() as i64).await;
    assert_eq!(back, with_rules_from_the_start(DEFAULT_RULES, &all).await);
    let live = ledger.contact_table().await;
    rebuild(&ledger.database).await.unwrap();
    assert_eq!(ledger.contact_table().await, live);
}

#[tokio::test]
async fn what_is_in_force_is_not_activated_again() {
    let ledger = TestLedger::new().await;
    assert!(ledger.put_in_force(DEFAULT_RULES).await.is_none());
    let with_comment = format!("# another comment\n{DEFAULT_RULES}");
    assert!(ledger.put_in_force(&with_comment).await.is_none());
}

#[tokio::test]
async fn rules_change_while_requests_run_on_two_nodes() {
    let ledger = TestLedger::new().await;
    let nodes = [Service::start(&ledger.url), Service::start(&ledger.url)];
    let all = observations(12, 1000);
    let load = join_all(all.chunks(100).enumerate().map(async |(n, mine)| {
        for seen in mine {
            nodes[n % 2].identify(seen).await;
        }
    }));
    let operate = async {
        for document in [OTHER_RULES, DEFAULT_RULES, PHONES_ONLY, OTHER_RULES, EXACT_RULES] {
            assert!(ledger.put_in_force(document).await.is_some());
            ledger.verify().await.unwrap();
        }
    };
    tokio::join!(load, operate);
    ledger.verify().await.unwrap();
    // In the order that they were recorded in, which is not the one they were sent in.
    let mut owner = ledger.owner().await;
    let recorded: Vec<(Option<String>, Option<String>)> =
        sqlx::query_as("select email, phone_number from observation order by id")
            .fetch_all(&mut owner)
            .await
            .unwrap();
    let recorded: Vec<_> =
        recorded.into_iter().map(|(email, phone_number)| Seen { email, phone_number }).collect();
    assert_eq!(recorded.len(), all.len());
    let shown = nodes[0].contacts(400).await;
    let fresh = with_rules_from_the_start(EXACT_RULES, &recorded).await;
    assert_eq!(shown, fresh[..400]);
}

#[tokio::test]
async fn a_long_pause_delays_requests_and_fails_none() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let mut owner = ledger.owner().await;
    let lock = "begin; lock table contact in exclusive mode";
    sqlx::raw_sql(lock).execute(&mut owner).await.unwrap();
    let pause = async {
        ledger.until_waited_for("contact").await;
        // Longer than two statements of the recorder may take, and shorter than a caller waits.
        sqlx::raw_sql("select pg_sleep(21); commit").execute(&mut owner).await.unwrap();
    };
    let seen = Seen::new("a@x.org", "");
    let (answer, ()) = tokio::join!(service.identify(&seen), pause);
    assert_eq!(answer.primary_contact_id, 1);
}

#[tokio::test]
async fn a_second_activation_hears_how_far_the_first_is() {
    let ledger = TestLedger::new().await;
    let mut owner = ledger.owner().await;
    let lock = "select pg_advisory_lock(
        hashtext('identity-ledger rebuild'), hashtext(current_schema()))";
    query(lock).execute(&mut owner).await.unwrap();
    let mut teller = ledger.owner().await;
    let name = "set application_name = 'ledger: writing contacts 43 %'";
    query(name).execute(&mut teller).await.unwrap();
    let error = activate(&ledger.database, ledger.order(EXACT_RULES).await).await;
    let error = error.err().unwrap().to_string();
    assert!(error.contains("writing contacts 43 %"), "{error}");
}

#[tokio::test]
async fn a_service_with_another_normaliser_does_not_decide_until_rules_are_activated() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("a@x.org", "")).await;
    ledger.put_foreign_rules_in_force().await;
    for node in [&service, &Service::start(&ledger.url)] {
        let response = node.try_identify(&Seen::new("b@x.org", "")).await.unwrap();
        assert_eq!(response.status(), 503);
        assert!(response.text().await.unwrap().contains("rules activate"));
    }
    assert!(ledger.put_in_force(DEFAULT_RULES).await.is_some());
    let answer = service.identify(&Seen::new("A@x.org", "1")).await;
    assert_eq!((answer.primary_contact_id, answer.secondary_contact_ids), (1, vec![2]));
    ledger.verify().await.unwrap();
}

/// What would have to be made by it is said not to be compared; all else is.
#[tokio::test]
async fn verify_holds_what_it_can_against_rules_of_another_normaliser() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x.org", "1"), ("b@x.org", "2")]).await;
    assert!(service.stop().success());
    let verify = |ledger: &TestLedger| command(&["verify", "--database-url", &ledger.url]);
    let facts = succeeds(verify(&ledger).arg("--json"));
    assert_eq!(serde_json::from_str::<Value>(&facts).unwrap()["keysCompared"], true);

    ledger.put_foreign_rules_in_force().await;
    let facts = succeeds(verify(&ledger).arg("--json"));
    let facts: Value = serde_json::from_str(&facts).unwrap();
    assert_eq!((&facts["verified"], &facts["contacts"]), (&true.into(), &2.into()));
    assert_eq!(facts["keysCompared"], false);
    let said = succeeds(&mut verify(&ledger));
    assert!(said.contains("not compared: the keys of contacts"), "{said}");
    for (change, column) in [
        ("set email = 'canary@x.org'", "contact 2: email"),
        ("set linked_id = 1", "contact 2: linked_id"),
        ("set email_key = null, unlinked_email = null, phone_number = '3'", "contact 2: phone"),
    ] {
        let copy = ledger.copy().await;
        let change = AssertSqlSafe(format!("update contact {change} where id = 2"));
        query(change).execute(&mut copy.superuser().await).await.unwrap();
        let said = refuses(&mut verify(&copy));
        assert!(said.contains(column), "{said}");
    }
    let copy = ledger.copy().await;
    query("update head set observation_id = 3").execute(&mut copy.superuser().await).await.unwrap();
    assert!(refuses(&mut verify(&copy)).contains("head: expected observation_id 2"));
}

#[tokio::test]
async fn an_activation_that_was_killed_leaves_the_old_rules_in_force() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all = observations(13, 300);
    service.observe(&all).await;
    let shown = service.contacts(300).await;
    // A lock that the swap must wait for: the kill meets it when everything else is done.
    let mut reader = ledger.owner().await;
    let hold = "begin; lock table contact in access share mode";
    sqlx::raw_sql(hold).execute(&mut reader).await.unwrap();
    let args = ["rules", "activate", EXACT_FILE, "--yes", "--reason", "a test"];
    let mut killed = command(&args).args(["--database-url", &ledger.url]).spawn().unwrap();
    let mut owner = ledger.owner().await;
    let is_ready = "select exists (select from pg_class where relname = 'contact_next_linked_id')";
    until_async("only the swap is left to do", async || {
        query_scalar::<_, bool>(is_ready).fetch_one(&mut owner).await.unwrap()
    })
    .await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    query("rollback").execute(&mut reader).await.unwrap();
    assert_eq!(service.contacts(300).await, shown);
    ledger.verify().await.unwrap();
    let output = succeeds(command(&args).args(["--database-url", &ledger.url, "--json"]));
    let activated: Value = serde_json::from_str(&output).unwrap();
    assert!(activated["events"].as_i64().unwrap() > 1);
    let left = "select exists (select from pg_class where relname like 'contact_next%')";
    assert!(!query_scalar::<_, bool>(left).fetch_one(&mut owner).await.unwrap());
    assert_eq!(service.contacts(300).await, with_rules_from_the_start(EXACT_RULES, &all).await);
    ledger.verify().await.unwrap();
}

/// The command, with an operator at its stdin who types this.
fn on_a_terminal(command: &Command, typed: &str) -> Command {
    let script = "
import os, pty, subprocess, sys
ours, theirs = pty.openpty()
os.write(ours, sys.argv[1].encode())
sys.exit(subprocess.run(sys.argv[2:], stdin=theirs).returncode)";
    let mut python = command_of(Path::new("python3"), &["-c", script, typed]);
    python.arg(command.get_program()).args(command.get_args());
    python
}

#[tokio::test]
async fn an_operator_sees_the_impact_and_limits_keep_it_in_bounds() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("Ann@x.org", "1"), ("ann@X.org", "2"), ("b@x.org", "3")]).await;
    let dir = scratch_dir();
    let remap = dir.path().join("remap.csv");
    let (file, remap_path) = (EXACT_FILE, remap.to_str().unwrap());
    let url = ["--database-url", &ledger.url];
    let diff = |args: &[&str]| succeeds(command(&["rules", "diff", file]).args(args).args(url));
    let text = diff(&["--remap", remap_path]);
    assert!(text.contains("0 merged from several, 1 split"), "{text}");
    assert!(text.contains("ann@x.org -> Ann@x.org"), "{text}");
    let csv = std::fs::read_to_string(&remap).unwrap();
    assert_eq!(csv, "contact_id,old_primary_id,new_primary_id\n2,1,2\n");
    // What was written once is there until the next one is whole.
    let nowhere = ["--database-url", "postgres://shop@127.0.0.1:1/shop", "--remap", remap_path];
    refuses(command(&["rules", "diff", file]).args(nowhere));
    assert_eq!(std::fs::read_to_string(&remap).unwrap(), csv);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "nothing is left beside it");
    let at_dir = ["rules", "diff", file, "--remap", dir.path().to_str().unwrap()];
    let refused = refuses(command(&at_dir).args(url));
    assert!(refused.contains("is not a file; pass another name"), "{refused}");
    let json: Value = serde_json::from_str(&diff(&["--json"])).unwrap();
    assert_eq!(json["contacts"]["moved"], 1);
    assert_eq!(json["identities"]["after"], 3);
    assert_eq!(json["links"]["email"]["lost"], 1);
    let limited = ["rules", "activate", file, "--yes", "--reason", "r", "--max-moved-percent", "1"];
    let output = command(&limited).args(url).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("33.33 % of the contacts move"), "{error}");
    let unasked =
        command(&["rules", "activate", file, "--reason", "r"]).args(url).output().unwrap();
    assert_eq!(unasked.status.code(), Some(1));
    let [shown, said] = [unasked.stdout, unasked.stderr].map(|it| String::from_utf8(it).unwrap());
    assert!(shown.contains("Activating this appends") && said.contains("pass --yes"), "{said}");
    // An operator who is asked has seen what would be done; what was done is the only JSON.
    let activate = ["rules", "activate", file, "--reason", "r", "--json"];
    let asked = on_a_terminal(command(&activate).args(url), "n\n").output().unwrap();
    let said = String::from_utf8(asked.stderr).unwrap();
    let (shown, question) =
        (said.find("Activating this appends"), said.find("Activate these rules?"));
    assert!(shown.is_some() && shown < question && said.contains("not confirmed"), "{said}");
    assert!(asked.stdout.is_empty());
    let all: Value =
        serde_json::from_str(&succeeds(command(&["rules", "list", "--json"]).args(url))).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
    succeeds(
        command(&["rules", "activate", file, "--yes", "--reason", "r", "--by", "me"]).args(url),
    );
    // On stdout is the document alone, so that it can be kept as a rules file.
    let shown = command(&["rules", "show"]).args(url).output().unwrap();
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), EXACT_RULES);
    let said = String::from_utf8(shown.stderr).unwrap();
    assert!(said.contains("exact version 1 (") && said.contains("by me: r"), "{said}");
    let namesake = dir.path().join("namesake.toml");
    std::fs::write(&namesake, EXACT_RULES.replace("links = true", "links = false")).unwrap();
    for (file, is_noted) in [(file, false), (namesake.to_str().unwrap(), true)] {
        let diff = command(&["rules", "diff", file]).args(url).output().unwrap();
        let said = String::from_utf8(diff.stderr).unwrap();
        assert_eq!(said.contains("has other rules named exact version 1"), is_noted, "{said}");
    }
}

/// Of two customers with one contact each, one retires into the other, or is no contact yet.
#[tokio::test]
async fn customers_merge_and_split_though_no_contact_is_left_to_tell() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    for number in ["030 55667788", "+493055667788", "030 1"] {
        service.identify(&Seen::new("", number)).await;
    }
    let dir = scratch_dir();
    let file = dir.path().join("rules.toml");
    let diff = |document: &str, args: &[&str]| {
        std::fs::write(&file, document).unwrap();
        let diff = ["rules", "diff", file.to_str().unwrap(), "--database-url", &ledger.url];
        succeeds(command(&diff).args(args))
    };
    let text = diff(GERMAN_RULES, &[]);
    assert!(text.contains("identities  3 before, 2 after"), "{text}");
    assert!(text.contains("1 merged from several, 0 split"), "{text}");
    let grows = "primary 1: 1 to 1 contact, of 2 identities, bridged by the phoneNumber \
                 +493055667788";
    assert!(text.contains(grows), "{text}");
    let json: Value = serde_json::from_str(&diff(GERMAN_RULES, &["--json"])).unwrap();
    assert_eq!(
        (&json["identities"]["merged"], &json["identities"]["split"]),
        (&1.into(), &0.into())
    );
    assert_eq!((&json["growing"][0]["identities"], &json["growing"][1]), (&2.into(), &Value::Null));
    ledger.put_in_force(GERMAN_RULES).await;
    let text = diff(DEFAULT_RULES, &[]);
    assert!(text.contains("identities  2 before, 3 after"), "{text}");
    assert!(text.contains("0 merged from several, 1 split"), "{text}");
    assert!(!text.contains("identities that grow"), "{text}");
}

#[test]
fn a_fault_in_a_rules_file_is_told_with_file_line_and_what_is_allowed() {
    let dir = scratch_dir();
    let file = dir.path().join("wrong.toml");
    std::fs::write(&file, DEFAULT_RULES.replace("case = \"insensitive\"", "case = \"loud\""))
        .unwrap();
    let path = file.to_str().unwrap();
    let error = refuses(&mut command(&["rules", "check", path]));
    assert!(error.contains("wrong.toml:") && error.contains("insensitive"), "{error}");
    let missing = refuses(&mut command(&["rules", "check", "no-such-file.toml"]));
    assert!(missing.contains("no-such-file.toml"), "{missing}");
}

#[tokio::test]
async fn a_verification_that_rules_change_beside_finds_nothing_wrong() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    ledger.put_in_force(EXACT_RULES).await;
    service.observe([("Ann@x.org", ""), ("ann@x.org", "")]).await;
    let mut superuser = ledger.superuser().await;
    let hold = "begin; lock table tile in access exclusive mode";
    sqlx::raw_sql(hold).execute(&mut superuser).await.unwrap();
    let change = async {
        ledger.until_waited_for("tile").await;
        ledger.put_in_force(DEFAULT_RULES).await;
        query("rollback").execute(&mut superuser).await.unwrap();
    };
    let (verified, ()) = tokio::join!(ledger.verify(), change);
    verified.unwrap();
}

/// As where the process hangs under its locks for longer than its session may be idle.
#[tokio::test]
async fn an_activation_that_loses_its_connection_says_which_rules_are_in_force() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("Ann@x.org", ""), ("ann@x.org", "")]).await;
    let mut owner = ledger.owner().await;
    let cut = "create function cut() returns trigger language plpgsql as $$
        begin
            perform pg_terminate_backend(pg_backend_pid());
            perform pg_sleep(60);
            return null;
        end
        $$";
    query(cut).execute(&mut owner).await.unwrap();
    for (trigger, told) in [
        (
            "create trigger cut after insert on event
            for each statement execute function cut()",
            "so the old rules are in force: run this again",
        ),
        (
            "create constraint trigger cut after insert on event
            deferrable initially deferred for each row execute function cut()",
            "so it is not known whether the new rules are in force: run this again",
        ),
    ] {
        query(trigger).execute(&mut owner).await.unwrap();
        let order = ledger.order(EXACT_RULES).await;
        let error = activate(&ledger.database, order).await.err().expect(trigger).to_string();
        assert!(error.contains("the connection to Postgres was lost"), "{error}");
        assert!(error.ends_with(told), "{error}");
        query("drop trigger cut on event").execute(&mut owner).await.unwrap();
        ledger.verify().await.unwrap();
    }
    assert!(ledger.put_in_force(EXACT_RULES).await.is_some());
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn an_activation_that_has_to_try_again_forgets_nothing() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    ledger.put_in_force(EXACT_RULES).await;
    service.observe([("Ann@x", "1"), ("ann@x", "2")]).await;
    // A reader keeps the swap from being done, and the old rules link what the new ones do.
    let mut reader = ledger.owner().await;
    let hold = "begin; lock table contact in access share mode";
    sqlx::raw_sql(hold).execute(&mut reader).await.unwrap();
    let observe = async {
        ledger.until_waited_for("contact").await;
        service.identify(&Seen::new("Ann@x", "2")).await;
        query("rollback").execute(&mut reader).await.unwrap();
    };
    let (activated, ()) = tokio::join!(ledger.put_in_force(DEFAULT_RULES), observe);
    assert!(activated.is_some());
    ledger.verify().await.unwrap();
}

/// No one could decide by it, and no node would record anything.
#[tokio::test]
async fn rules_are_not_activated_where_something_else_is_under_their_digest() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let digest = Rules::parse(EXACT_RULES).unwrap().digest().as_str().to_owned();
    let mut superuser = ledger.superuser().await;
    query("alter table rules disable trigger all").execute(&mut superuser).await.unwrap();
    let other = "insert into rules
        select $1, name, version, document, normaliser from rules where name = 'default'";
    query(other).bind(&digest).execute(&mut superuser).await.unwrap();
    // The same in other words is the same.
    let commented = format!("# another comment\n{EXACT_RULES}");
    let mend = "update rules set name = 'exact', version = 1, document = $2, normaliser = ''
        where digest = $1";
    for damage in [
        "select $1",
        "update rules set name = 'other' where digest = $1",
        "update rules set version = 2 where digest = $1",
        "update rules set normaliser = 'other 1.0' where digest = $1",
    ] {
        query(damage).bind(&digest).execute(&mut superuser).await.unwrap();
        let order = ledger.order(EXACT_RULES).await;
        let error = activate(&ledger.database, order).await.err().expect(damage).to_string();
        assert!(error.contains("something else under the digest of these rules"), "{error}");
        assert!(error.contains("nothing was changed: run identity-ledger verify"), "{error}");
        let mend = query(mend).bind(&digest).bind(&commented);
        mend.execute(&mut superuser).await.unwrap();
    }
    service.identify(&Seen::new("a@x.org", "")).await;
    assert!(ledger.put_in_force(EXACT_RULES).await.is_some());
    service.identify(&Seen::new("A@x.org", "")).await;
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn what_was_shown_of_other_rules_is_not_activated() {
    let ledger = TestLedger::new().await;
    let shown = ledger.order(OTHER_RULES).await;
    ledger.put_in_force(EXACT_RULES).await;
    let error = activate(&ledger.database, shown).await.err().unwrap().to_string();
    assert!(error.contains("meanwhile"), "{error}");
}
