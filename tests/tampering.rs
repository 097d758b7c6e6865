//! Whatever a superuser changes, `verify` names it, and where it is.

use crate::support::{
    PHONES_ONLY, SERVE, Seen, Service, SigningKey, TestLedger, command, random_observations,
    refuses, scratch_dir, succeeds, until,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query_scalar};
use std::process::Command;

/// A sealed ledger at rest, with more events than one tile holds, and a checkpoint outside.
struct Sealed {
    ledger: TestLedger,
    key: SigningKey,
    /// Before the last events were recorded.
    earlier: TestLedger,
    earlier_head: i64,
    head: i64,
}

impl Sealed {
    async fn new() -> Self {
        let (ledger, key) = (TestLedger::new().await, SigningKey::new());
        record(&ledger, &key, 1).await;
        let earlier = ledger.copy().await;
        let earlier_head = ledger.position().await;
        record(&ledger, &key, 2).await;
        let head = ledger.position().await;
        assert!(earlier_head > 300 && head > earlier_head + 100);
        Self { ledger, key, earlier, earlier_head, head }
    }

    fn with_outside(&self, args: &[&str], ledger: &TestLedger) -> Command {
        let mut command = command(args);
        command.args(self.key.args_with_outside(ledger, self.key.dir()));
        command
    }

    /// What verify says of a copy in which this was done with no trigger in the way.
    async fn failure_after(&self, tampering: &str) -> Value {
        let copy = self.ledger.copy().await;
        let off = "
            alter table event disable trigger all;
            alter table observation disable trigger all;
            alter table checkpoint disable trigger all;
        ";
        let tamper = AssertSqlSafe(format!("{off} {tampering}"));
        sqlx::raw_sql(tamper).execute(&mut copy.superuser().await).await.unwrap();
        self.failure(&copy)
    }

    fn failure(&self, ledger: &TestLedger) -> Value {
        let output = self.with_outside(&["verify", "--json"], ledger).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(!format!("{said}{stderr}").contains("canary"), "no personal data");
        assert_eq!(said["verified"], false);
        assert_ne!(said["failure"].is_null(), said["error"].is_null(), "{said}");
        said["failure"].clone()
    }
}

/// Has a service record a few hundred observations, seal them and stop.
async fn record(ledger: &TestLedger, key: &SigningKey, seed: u64) {
    let service = Service::start_with(&key.args_with_outside(ledger, key.dir()));
    // Contact 1 has both identifiers, no matter who comes next.
    service.identify(&Seen::new("first@x.org", "001")).await;
    service.identify_all(&random_observations(seed, 300, 120)).await;
    service.sealed().await;
    assert!(service.stop().success());
}

async fn number(session: &mut PgConnection, query: &'static str) -> i64 {
    query_scalar(query).fetch_one(session).await.unwrap()
}

/// Moves the last event in time and leaves nothing that contradicts it but the tree.
fn later(head: i64) -> String {
    format!(
        r#"
        update event
        set recorded_at = recorded_at + interval '1 second',
            line = regexp_replace(line, '"recordedAt":"[^"]*"', '"recordedAt":"' || to_char(
                (recorded_at + interval '1 second') at time zone 'utc',
                'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
            ) || '"')
        where position = {head};
        update observation as o
        set observed_at = e.recorded_at
        from event as e
        where e.position = {head} and o.position = {head};
        "#
    )
}

/// Changes an event of the kind that is in no observation: only the tree knows better.
fn relinked(position: i64) -> String {
    format!(
        "update event
        set line = replace(line, '\"primaryId\":' || primary_id, '\"primaryId\":' || primary_id + 1),
            primary_id = primary_id + 1
        where position = {position}"
    )
}

#[tokio::test]
async fn whatever_a_superuser_changes_verify_names_it_and_where_it_is() {
    let sealed = Sealed::new().await;
    let mut owner = sealed.ledger.owner().await;
    let (head, beyond) = (sealed.head, sealed.head + 1);
    let at_30 = number(&mut owner, "select position from observation where id = 30").await;
    let linked = number(
        &mut owner,
        "select min(position) from event where kind = 'ContactLinked' and position > 270",
    )
    .await;
    let last_observed = number(&mut owner, "select max(position) from observation").await;
    drop(owner);

    let twice = "
        alter table observation drop constraint observation_pkey;
        insert into observation
        select id, position, observed_at, 'canary@x.org', null, salt
        from observation
        order by id desc
        limit 1;
    ";
    let swap = "
        update event set position = -1 where position = 40;
        update event set position = 40 where position = 41;
        update event set position = 41 where position = -1;
    ";
    let cut = format!(
        "delete from event where position = {head};
        delete from observation where position = {head};
        update head set position = {head} - 1,
            observation_id = (select max(id) from observation)"
    );
    #[rustfmt::skip]
    let cases: [(&str, String, i64, &str); 32] = [
        ("a byte of a line", "update event set line = replace(line, 'position', 'Position') where position = 40".into(), 40, "line"),
        ("a digit of a line", "update event set line = regexp_replace(line, '\"position\":40', '\"position\":41') where position = 40".into(), 40, "line"),
        ("a blank in a line", "update event set line = line || ' ' where position = 40".into(), 40, "line"),
        ("a line and its columns", relinked(linked), linked, "line"),
        ("a column", "update event set contact_id = contact_id + 1 where position = 40".into(), 40, "column contact_id"),
        ("an empty column", "update event set primary_id = null where position = 40".into(), 40, "column primary_id"),
        ("the kind", "update event set kind = 'canary' where position = 40".into(), 40, "column kind"),
        ("the time of the column", "update event set recorded_at = recorded_at + interval '1 microsecond' where position = 40".into(), 40, "column recorded_at"),
        ("its time everywhere", later(head), head, "line"),
        ("the last event deleted", format!("delete from event where position = {head}"), head, "position"),
        ("the last event cut off", cut, head, "checkpoint"),
        ("one in the middle deleted", "delete from event where position = 40".into(), 40, "position"),
        ("two swapped", swap.into(), 40, "line"),
        ("one more", format!("insert into event (position, recorded_at, kind, line) values ({beyond}, now(), 'canary', 'canary')"), beyond, "position"),
        ("one before all", "insert into event (position, recorded_at, kind, line) values (0, now(), 'canary', 'canary')".into(), 0, "position"),
        ("an email", "update observation set email = 'canary@x.org' where id = 30".into(), at_30, "observation"),
        ("an email and a later line", format!("update observation set email = 'canary@x.org' where id = 30; update event set line = line || ' ' where position = {head}"), at_30, "observation"),
        ("a salt", "update observation set salt = set_byte(salt, 0, get_byte(salt, 0) # 1) where id = 30".into(), at_30, "observation"),
        ("a salt lost", "update observation set salt = null where id = 30".into(), at_30, "observation"),
        ("values lost", "update observation set email = null, phone_number = null where id = 30".into(), at_30, "observation"),
        ("an observation deleted", "delete from observation where id = 30".into(), at_30, "observation"),
        ("the last observation twice", twice.into(), last_observed, "observation"),
        ("a tile", "update tile set hashes = set_byte(hashes, 32 * 39 + 7, get_byte(hashes, 32 * 39 + 7) # 1) where level = 0 and index = 0".into(), 40, "tile"),
        ("an upper tile", "update tile set hashes = set_byte(hashes, 0, get_byte(hashes, 0) # 1) where level = 1".into(), 1, "tile"),
        ("the last tile", "delete from tile where level = 0 and index = 1".into(), 257, "tile"),
        ("a tile where none belongs", "insert into tile select 3, 77, hashes from tile where level = 0 and index = 0".into(), (77 << 32) + 1, "tile"),
        ("a tile of nothing where none belongs", "insert into tile values (1, 5, '')".into(), (5 << 16) + 1, "tile"),
        ("a tile twice", "alter table tile drop constraint tile_pkey; insert into tile select * from tile where level = 0 and index = 0".into(), 1, "tile"),
        ("a filled tile that goes on", "update tile set hashes = hashes || hashes where level = 0 and index = 0".into(), 1, "tile"),
        ("the last tile that goes on", "update tile set hashes = hashes || hashes where level = 1".into(), 1, "tile"),
        ("the root of a checkpoint", format!("update checkpoint set root = set_byte(root, 0, get_byte(root, 0) # 1) where size = {head}"), head, "checkpoint"),
        ("a checkpoint that no one signed", format!("update checkpoint set note = replace(note, E'\\n{head}\\n', E'\\n{beyond}\\n'), size = {beyond} where size = {head}"), beyond, "checkpoint"),
    ];
    for (what, tampering, position, part) in cases {
        let failure = sealed.failure_after(&tampering).await;
        assert_eq!(
            (&failure["position"], &failure["part"]),
            (&position.into(), &part.into()),
            "{what}: {failure}"
        );
    }
    for (tampering, part, expected) in [
        ("update head set observation_id = observation_id + 10", "head", "observation_id"),
        ("update head set recorded_at = recorded_at + interval '1 day'", "head", "recorded_at"),
        ("update head set rules_digest = 'none'", "head", "rules_digest"),
        ("update contact set deleted_at = now() where id = 1", "contact", "contact 1: deleted_at"),
        (
            "update contact set unlinked_email = 'canary@x.org' where id = 1",
            "contact",
            "contact 1: unlinked_email",
        ),
        (
            "update contact set link_precedence = 'secondary' where id = 1",
            "contact",
            "contact 1: link_precedence primary",
        ),
        (
            "update contact set updated_at = 'infinity' where id = 1",
            "contact",
            "contact 1: updated_at",
        ),
        (
            "update contact set deleted_at = '-infinity' where id = 1",
            "contact",
            "contact 1: deleted_at null",
        ),
        ("update head set recorded_at = 'infinity'", "head", "recorded_at"),
        (
            "insert into contact (id, link_precedence, created_at, updated_at, email, email_key)
            values (-9223372036854775808, 'primary', now(), now(), 'canary@x.org', 'canary@x.org')",
            "contact",
            "no contact -9223372036854775808",
        ),
        (
            "insert into checkpoint values (0, '', 'no note', now())",
            "checkpoint",
            "none of no events",
        ),
        ("alter table rules disable trigger all; delete from rules", "rules", "default version 1"),
        (
            "alter table rules disable trigger all;
            update rules set document = replace(document, 'insensitive', 'sensitive')",
            "rules",
            "default version 1",
        ),
        (
            "alter table rules disable trigger all; update rules set version = version + 1",
            "rules",
            "default version 1",
        ),
        (
            "alter table rules disable trigger all, alter document drop not null;
            update rules set document = null",
            "rules",
            "default version 1",
        ),
    ] {
        let failure = sealed.failure_after(tampering).await;
        assert_eq!(failure["part"], part, "{failure}");
        assert!(failure["expected"].as_str().unwrap().contains(expected), "{failure}");
    }
    for tampering in [
        "alter table checkpoint alter root drop not null; update checkpoint set root = null",
        "alter table checkpoint alter note drop not null; update checkpoint set note = null",
    ] {
        let failure = sealed.failure_after(tampering).await;
        assert!(!failure["position"].is_null(), "{failure}");
        assert_eq!(failure["part"], "checkpoint", "{failure}");
    }
    let failure = sealed.failure_after("alter table contact drop column updated_at").await;
    assert_eq!(failure, Value::Null, "it is an error, and a line of JSON all the same");
    let failure =
        sealed.failure_after("update contact set email = 'canary@x.org' where id = 1").await;
    assert_eq!((&failure["position"], &failure["part"]), (&2.into(), &"contact".into()));
    assert!(failure["expected"].as_str().unwrap().contains("contact 1: email as"), "{failure}");
    // When a checkpoint was signed is not signed.
    let copy = sealed.ledger.copy().await;
    let endless = "alter table checkpoint disable trigger all;
        update checkpoint set signed_at = 'infinity'";
    sqlx::raw_sql(endless).execute(&mut copy.superuser().await).await.unwrap();
    for ledger in [&copy, &sealed.ledger] {
        succeeds(&mut sealed.with_outside(&["verify"], ledger));
    }
}

/// What it says is needed for events long before it.
#[tokio::test]
async fn an_erasure_whose_event_was_changed_is_named_and_not_what_it_erased() {
    let (ledger, key) = (TestLedger::new().await, SigningKey::new());
    record(&ledger, &key, 1).await;
    let service = Service::start_with(&key.args(&ledger));
    assert_eq!(service.erase(1).await.status(), 200);
    service.identify(&Seen::new("after@x.org", "")).await;
    assert!(service.stop().success());
    let of_it = "kind = 'ContactErased'";
    let position = format!("select position from event where {of_it}");
    let mut owner = ledger.owner().await;
    let position: i64 = query_scalar(AssertSqlSafe(position)).fetch_one(&mut owner).await.unwrap();
    owner.close().await.unwrap();
    for (change, part) in [
        ("kind = 'ContactLinked'", "column kind"),
        ("line = replace(line, '\"observationIds\"', '\"observationNumbers\"')", "line"),
        ("line = replace(line, '\"observationIds\":[1', '\"observationIds\":[100001')", "line"),
    ] {
        let copy = ledger.copy().await;
        let change = format!(
            "alter table event disable trigger all; update event set {change} where {of_it}"
        );
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut copy.superuser().await).await.unwrap();
        let output = command(&["verify", "--json"]).args(key.args(&copy)).output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failure = &said["failure"];
        assert_eq!((&failure["position"], &failure["part"]), (&position.into(), &part.into()));
    }
}

#[tokio::test]
async fn a_ledger_that_is_gone_is_not_begun_anew_beside_its_checkpoint() {
    let (ledger, key) = (TestLedger::new().await, SigningKey::new());
    record(&ledger, &key, 1).await;
    let mut superuser = ledger.superuser().await;
    sqlx::raw_sql("drop schema ledger cascade").execute(&mut superuser).await.unwrap();
    let mut serve = command(SERVE);
    serve.args(key.args_with_outside(&ledger, key.dir()));
    let said = refuses(&mut serve);
    assert!(said.contains("no ledger") && said.contains("identity-ledger restore"), "{said}");
    let is_there = "select to_regnamespace('ledger') is not null";
    assert!(!query_scalar::<_, bool>(is_there).fetch_one(&mut superuser).await.unwrap());
}

#[tokio::test]
async fn a_sealer_that_panics_is_seen_to_seal_nothing() {
    let (ledger, key) = (TestLedger::new().await, SigningKey::new());
    record(&ledger, &key, 1).await;
    // Later than chrono can say.
    let tampering = "alter table checkpoint disable trigger all;
        update checkpoint set signed_at = 'infinity'";
    sqlx::raw_sql(tampering).execute(&mut ledger.superuser().await).await.unwrap();
    let service = Service::start_with(&key.args(&ledger));
    until("it is told", || service.log().contains("nothing more is sealed"));
    let metrics = service.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("identity_ledger_sealing_refused 1"), "{metrics}");
    service.identify(&Seen::new("goes.on@x.org", "")).await;
}

#[tokio::test]
async fn a_time_that_cannot_be_told_refuses_whom_it_concerns_and_no_one_else() {
    let ledger = TestLedger::new().await;
    Service::start(&ledger.url).identify(&Seen::new("canary@x.org", "1")).await;
    let tampering = "update contact set updated_at = 'infinity'";
    sqlx::raw_sql(tampering).execute(&mut ledger.superuser().await).await.unwrap();
    let service = Service::start(&ledger.url);
    for n in 0..3 {
        let concerned = service.try_identify(&Seen::new("canary@x.org", "")).await.unwrap();
        assert_eq!(concerned.status(), 500);
        service.identify(&Seen::new(&format!("other{n}@x.org"), "")).await;
    }
    let shown = service.get("/contacts/1").await;
    assert_eq!(shown.status(), 500);
    assert!(shown.text().await.unwrap().contains("identity-ledger verify"));
    until("it is told", || service.log().contains("not recorded: "));
    assert!(!service.log().contains("canary"), "{}", service.log());
}

/// Nothing of this request links, so the recorder does not read the customer, and its answer does.
#[tokio::test]
async fn a_retry_is_answered_even_if_a_time_of_its_customer_cannot_be_told() {
    let ledger = TestLedger::new().await;
    ledger.put_in_force(PHONES_ONLY).await;
    let service = Service::start(&ledger.url);
    let seen = Seen::new("canary@x.org", "");
    let retry = async || service.try_identify_once(&seen, "one").await.unwrap().status();
    assert_eq!(retry().await, 200);
    let tampering = "update contact set updated_at = 'infinity'";
    sqlx::raw_sql(tampering).execute(&mut ledger.superuser().await).await.unwrap();
    assert_eq!(retry().await, 500);
}

#[tokio::test]
async fn a_number_that_is_too_large_takes_no_memory() {
    let ledger = TestLedger::new().await;
    Service::start(&ledger.url).identify(&Seen::new("a@x.org", "")).await;
    let tampering = "
        insert into observation (id, position, observed_at, email, salt)
        select 1::bigint << 36, position, observed_at, email, salt from observation;
        update head set observation_id = 1::bigint << 36";
    sqlx::raw_sql(tampering).execute(&mut ledger.superuser().await).await.unwrap();
    let dir = scratch_dir();
    let rules = dir.path().join("rules.toml");
    std::fs::write(&rules, PHONES_ONLY).unwrap();
    let diff = ["rules", "diff", rules.to_str().unwrap(), "--database-url", &ledger.url];
    assert!(refuses(&mut command(&diff)).contains("identity-ledger verify"));
    Service::start(&ledger.url).identify(&Seen::new("b@x.org", "")).await;
}

#[tokio::test]
async fn no_command_goes_on_from_a_head_that_contradicts_the_tables() {
    let ledger = TestLedger::new().await;
    Service::start(&ledger.url).identify(&Seen::new("canary@x.org", "")).await;
    for (tampering, says) in [
        ("update head set position = 800", "the last event is 800, and it is 2"),
        ("update head set position = 1", "the last event is 1, and it is 2"),
        ("update head set observation_id = 0", "the last observation is 0, and it is 1"),
        ("update head set observation_id = 11", "the last observation is 11, and it is 1"),
        ("update head set recorded_at = recorded_at + interval '30 days'", "says another time"),
        ("update head set rules_digest = 'none'", "names rules that are not recorded"),
        (
            "insert into rules select 'other', name, version, document, normaliser from rules;
            update head set rules_digest = 'other'",
            "names other rules",
        ),
        (
            "alter table head alter observation_id drop not null;
            update head set observation_id = null",
            "does not say where the ledger ends",
        ),
        ("delete from head", "has no row"),
        (
            "alter table event disable trigger all; delete from event",
            "the last event is 2, and it is 0",
        ),
        (
            "alter table event disable trigger all; delete from event; delete from head",
            "has no row",
        ),
        (
            "drop index head_has_one_row;
            insert into head select * from head",
            "has more than one row",
        ),
    ] {
        let copy = ledger.copy().await;
        sqlx::raw_sql(tampering).execute(&mut copy.superuser().await).await.unwrap();
        let erase = ["erase", "1", "--reason", "customer-request", "--yes"];
        for args in [SERVE, &["rebuild"], &["export", "x"], &erase] {
            let said = refuses(command(args).args(["--database-url", &copy.url]));
            assert!(said.contains(says) && said.contains("identity-ledger verify"), "{said}");
        }
        let verify = command(&["verify", "--database-url", &copy.url]).output().unwrap();
        let stderr = String::from_utf8(verify.stderr).unwrap();
        assert_eq!(verify.status.code(), Some(1), "{stderr}");
        assert!(!stderr.contains("decod") && !stderr.contains("canary"), "{stderr}");
    }
}

#[tokio::test]
async fn a_checkpoint_outside_that_is_not_there_is_not_passed_over() {
    let (ledger, key) = (TestLedger::new().await, SigningKey::new());
    record(&ledger, &key, 5).await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("one.more@x.org", "")).await;
    assert!(service.stop().success());
    let dir = key.dir().join("typo");
    let verify = |args: &[&str]| {
        let mut verify = command(&["verify"]);
        verify.args(key.args(&ledger)).args(args);
        verify
    };
    let said = refuses(&mut verify(&["--checkpoint-dir", dir.to_str().unwrap()]));
    assert!(said.contains("there is no checkpoint"), "{said}");

    let dir = key.dir().to_str().unwrap();
    let said = succeeds(&mut verify(&["--checkpoint-dir", dir]));
    assert!(said.contains("verified: 1 event continues the checkpoint outside"), "{said}");
    for (args, expected) in
        [(&["--json", "--checkpoint-dir", dir][..], 1.into()), (&["--json"], Value::Null)]
    {
        let facts: Value = serde_json::from_str(&succeeds(&mut verify(args))).unwrap();
        assert_eq!(facts["afterOutside"], expected);
    }
}

/// The checkpoint that tells comes a page of verify's later.
#[tokio::test]
async fn a_changed_line_is_told_from_a_changed_tile_however_far_the_checkpoint_is() {
    let (ledger, key) = (TestLedger::new().await, SigningKey::new());
    let service = Service::start(&ledger.url);
    service.identify_all(&random_observations(4, 8_200, 2_000)).await;
    assert!(service.stop().success());
    succeeds(command(&["export"]).arg(key.dir().join("export")).args(key.args(&ledger)));
    let mut superuser = ledger.superuser().await;
    assert!(number(&mut superuser, "select min(size) from checkpoint").await > 8_192);

    let linked = "select min(position) from event where kind = 'ContactLinked' and position > 270";
    let linked = number(&mut superuser, linked).await;
    let tamper = format!("alter table event disable trigger all; {}", relinked(linked));
    sqlx::raw_sql(AssertSqlSafe(tamper)).execute(&mut superuser).await.unwrap();
    let said = refuses(command(&["verify"]).args(key.args(&ledger)));
    assert!(said.contains(&format!("event {linked}: line: ")), "{said}");
}

#[tokio::test]
async fn nothing_is_served_beside_a_checkpoint_outside_that_tells_nothing() {
    let sealed = Sealed::new().await;
    let serve = |ledger| sealed.with_outside(SERVE, ledger);
    let other = SigningKey::new();
    let dir = sealed.key.dir().to_str().unwrap();
    let start = [SERVE, &["--checkpoint-dir", dir]].concat();
    let said = refuses(command(&start).args(other.args(&sealed.ledger)));
    assert!(said.contains("pass the key that it was signed with"), "{said}");
    let said = refuses(command(&start).args(["--database-url", &sealed.ledger.url]));
    assert!(said.contains("--checkpoint-dir needs the key"), "{said}");

    let file = sealed.key.dir().join("ledger.checkpoint");
    let kept = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &kept[..kept.len() / 2]).unwrap();
    let said = refuses(&mut serve(&sealed.ledger));
    assert!(said.contains("put a copy of it back"), "{said}");
    std::fs::remove_file(&file).unwrap();
    let said = refuses(&mut serve(&sealed.ledger));
    assert!(said.contains("--new-checkpoint-dir"), "{said}");
    let other_serve = || {
        let mut serve = command(&start);
        serve.args(other.args(&sealed.ledger)).arg("--new-checkpoint-dir");
        serve
    };
    let said = refuses(&mut other_serve());
    assert!(said.contains("either the key file lacks the line of an earlier key"), "{said}");

    // It is begun at once, not with the next event.
    let service = Service::spawn(serve(&sealed.ledger).arg("--new-checkpoint-dir"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), kept);
    assert!(service.stop().success());
    let service = Service::spawn(serve(&sealed.ledger).arg("--new-checkpoint-dir"));
    assert!(service.log().contains("--new-checkpoint-dir is not needed any more"));
    assert!(service.stop().success());
    assert!(Service::spawn(&mut serve(&sealed.ledger)).stop().success());
}

#[tokio::test]
async fn an_older_copy_of_the_database_is_not_taken_for_the_present() {
    let sealed = Sealed::new().await;
    let failure = sealed.failure(&sealed.earlier);
    assert_eq!(failure["position"], sealed.earlier_head + 1, "{failure}");
    assert_eq!(failure["part"], "checkpoint outside");

    let serve = || sealed.with_outside(SERVE, &sealed.earlier);
    let said = refuses(&mut serve());
    assert!(said.contains("the database has gone back in time: it has"), "{said}");
    assert!(said.contains("restore --accept-loss --reason TEXT"), "{said}");

    // Damaged tiles do not hide it.
    let copy = sealed.earlier.copy().await;
    let damage = "alter table tile disable trigger all; delete from tile";
    sqlx::raw_sql(damage).execute(&mut copy.superuser().await).await.unwrap();
    let said = refuses(&mut sealed.with_outside(SERVE, &copy));
    assert!(said.contains("the database has gone back in time: it has"), "{said}");

    // As when the older database takes the place of the newer one under a service that runs.
    let file = sealed.key.dir().join("ledger.checkpoint");
    let aside = sealed.key.dir().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    let service = Service::spawn(serve().arg("--new-checkpoint-dir"));
    until("it seals", || service.log().contains("this node seals the ledger"));
    std::fs::rename(&aside, &file).unwrap();
    kill_sealer(&sealed.earlier).await;
    until("it refuses", || service.log().contains("nothing more is sealed: the database has gone"));
    let told = service.get_json("/ledger").await;
    assert_eq!(told["sealing"], "refused");
    assert!(told["refusal"].as_str().unwrap().contains("gone back in time"), "{told}");
    let metrics = service.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("identity_ledger_sealing_refused 1"), "{metrics}");

    // When it has grown as long again, it is another ledger all the same.
    let all = random_observations(3, 400, 120);
    service.observe(&all).await;
    until("it refuses", || service.log().contains("nothing more is sealed: the database differs"));
    let sizes = "select max(size) from checkpoint";
    let size = number(&mut sealed.earlier.owner().await, sizes).await;
    assert_eq!(size, sealed.earlier_head, "nothing was signed");
    assert!(service.stop().success());
    let failure = sealed.failure(&sealed.earlier);
    assert_eq!(
        (&failure["position"], &failure["part"]),
        (&sealed.head.into(), &"checkpoint outside".into())
    );
    let said = refuses(&mut serve());
    assert!(said.contains("this is not an older backup, but another history"), "{said}");
}

/// Whatever else is damaged beside it, or was put back with it.
#[tokio::test]
async fn no_older_copy_is_served_whatever_checkpoints_it_has() {
    let sealed = Sealed::new().await;
    let refusal = |ledger: &TestLedger| refuses(&mut sealed.with_outside(SERVE, ledger));
    let went_back = |said: &str| {
        said.contains("the database has gone back in time: it has")
            && said.contains("a checkpoint kept outside of the database covers")
    };
    let last = "where size = (select max(size) from checkpoint)";
    let changes = ["note = 'x' || note", "root = sha256(root)"].map(|change| {
        let off = "alter table checkpoint disable trigger all";
        format!("{off}; update checkpoint set {change} {last}")
    });
    for change in changes {
        let (older, whole) = (sealed.earlier.copy().await, sealed.ledger.copy().await);
        for copy in [&older, &whole] {
            let change = AssertSqlSafe(change.clone());
            sqlx::raw_sql(change).execute(&mut copy.superuser().await).await.unwrap();
        }
        let said = refusal(&older);
        assert!(went_back(&said), "{said}");
        let said = refusal(&whole);
        assert!(said.contains("the last checkpoint in the database"), "{said}");
        assert!(said.contains("identity-ledger verify"), "{said}");
    }

    // Restored in part.
    let copy = sealed.ledger.copy().await;
    copy.cut_events_after(sealed.earlier_head).await;
    let said = refusal(&copy);
    assert!(went_back(&said), "{said}");

    // Another ledger of the same name, which another key has signed.
    let (other, other_key) = (TestLedger::new().await, SigningKey::new());
    record(&other, &other_key, 1).await;
    let said = refusal(&other);
    assert!(went_back(&said), "{said}");
}

#[tokio::test]
async fn another_history_of_the_same_length_is_not_served_even_without_its_tiles() {
    let (ledger, other, key) =
        (TestLedger::new().await, TestLedger::new().await, SigningKey::new());
    let outside = ["--checkpoint-dir", key.dir().to_str().unwrap()];
    let with_outside = [&key.args(&ledger)[..], &outside].concat();
    for (args, email) in [(&with_outside[..], "a@x.org"), (&key.args(&other), "b@x.org")] {
        let service = Service::start_with(args);
        service.identify(&Seen::new(email, "")).await;
        service.sealed().await;
        assert!(service.stop().success());
    }
    let damage = "alter table tile disable trigger all; delete from tile";
    sqlx::raw_sql(damage).execute(&mut other.superuser().await).await.unwrap();
    let said = refuses(command(SERVE).args(key.args(&other)).args(outside));
    assert!(said.contains("this is not an older backup, but another history"), "{said}");
}

/// The next one begins with what is stored and what is kept outside.
async fn kill_sealer(ledger: &TestLedger) {
    let kill = "
        select count(pg_terminate_backend(pid))
        from pg_stat_activity
        where application_name = 'identity-ledger sealer' and datname = current_database()";
    assert_eq!(number(&mut ledger.superuser().await, kill).await, 1);
}

#[tokio::test]
async fn whatever_is_changed_about_an_erasure_verify_names_it() {
    let sealed = Sealed::new().await;
    let service = Service::start(&sealed.ledger.url);
    let primary = service.identify(&Seen::new("canary@x.org", "99")).await.primary_contact_id;
    service.identify(&Seen::new("canary2@x.org", "99")).await;
    service.identify(&Seen::new("", "99")).await;
    let (secondary, last) = (primary + 1, primary + 2);
    assert_eq!(service.erase(secondary).await.status(), 200);
    assert!(service.stop().success());
    let head = sealed.ledger.position().await;
    let mut owner = sealed.ledger.owner().await;
    let position = "select position from observation where id = ";
    let mut at = async |id: i64| {
        let position = AssertSqlSafe(format!("{position}{id}"));
        query_scalar::<_, i64>(position).fetch_one(&mut owner).await.unwrap()
    };
    let (at_last, at_30) = (at(last).await, at(30).await);
    owner.close().await.unwrap();
    let all = format!("{primary},{secondary},{last}");
    let listed = |ids: &str| {
        format!(
            "update event
            set line = replace(line, '\"observationIds\":[{all}]', '\"observationIds\":[{ids}]')
            where position = {head};"
        )
    };
    let contact = |set: &str, id: i64| format!("update contact set {set} where id = {id}");
    let lost =
        "update observation set email = null, phone_number = null, salt = null where id = 30";
    let put_back = format!(
        "update observation set phone_number = '99', salt = '0123456789abcdef' where id = {last}"
    );
    let one_less = format!("{} {put_back}", listed(&format!("{primary},{secondary}")));
    let one_more = format!("{} {lost}", listed(&format!("30,{all}")));
    let disorder = listed(&format!("{secondary},{primary},{last}"));
    let cases = [
        ("a value put back", put_back, at_last, "observation"),
        (
            "a value without its salt put back",
            format!("update observation set email = 'a@x.org' where id = {last}"),
            at_last,
            "observation",
        ),
        ("a value lost", lost.to_owned(), at_30, "observation"),
        ("one left over", one_less, at_last, "observation"),
        ("one more", one_more, head, "decision"),
        ("one that is not there", listed(&format!("{all},999999")), head, "decision"),
        ("in disorder", disorder, head, "decision"),
    ];
    for (what, tampering, position, part) in cases {
        let failure = sealed.failure_after(&tampering).await;
        let found = (&failure["position"], &failure["part"]);
        assert_eq!(found, (&position.into(), &part.into()), "{what}: {failure}");
    }
    for tampering in [
        contact("linked_id = 7", secondary),
        contact("deleted_at = null", primary),
        contact("deleted_at = now()", primary),
        contact("email = 'canary@x.org'", primary),
        contact("unlinked_phone = '99'", primary),
        format!("delete from contact where id = {secondary}"),
    ] {
        let failure = sealed.failure_after(&tampering).await;
        assert_eq!(failure["part"], "contact", "{tampering}: {failure}");
    }
    let said = succeeds(command(&["verify"]).args(sealed.key.args(&sealed.ledger)));
    assert!(said.contains("erased: 3 observations"), "{said}");
}
