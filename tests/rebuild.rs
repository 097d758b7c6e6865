//! The contact table can be thrown away, and a wrong one is found out.

use crate::support::{
    Model, SERVE, Seen, Service, TestLedger, command, random_observations, refuses, succeeds, until,
};
use futures_util::future::join_all;
use identity_ledger::identity::{EXACT_RULES, Rules};
use identity_ledger::rebuild::{activate, impact, rebuild};
use serde_json::Value;
use sqlx::{AssertSqlSafe, query, query_scalar};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

async fn filled(seed: u64, len: usize, world: u64) -> (TestLedger, Service) {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify_all(&random_observations(seed, len, world)).await;
    (ledger, service)
}

#[tokio::test]
async fn a_rebuilt_table_equals_the_live_one() {
    let (ledger, service) = filled(4, 800, 200).await;
    // The backslash is what the text format of COPY gives a meaning to.
    service.identify(&Seen::new(r"back\slash\\t@x.org", "")).await;
    let live = ledger.contact_table().await;
    let rebuilt = rebuild(&ledger.database).await.unwrap();
    assert_eq!(ledger.contact_table().await, live);
    assert!(rebuilt.contacts_len > 100);
    // The new table serves, with the old one's indexes, and can be rebuilt again.
    service.identify(&Seen::new(r"back\slash\\t@x.org", "5")).await;
    rebuild(&ledger.database).await.unwrap();
    ledger.verify().await.unwrap();
}

/// No request brings them, but a damaged observation may have them.
#[tokio::test]
async fn an_observation_with_control_characters_becomes_one_row_with_them() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x.org", ""), ("b@x.org", "")]).await;
    assert!(service.stop().success());
    let damage = r"
        alter table observation disable trigger all;
        update observation
        set email = E'x\n3\t\\N\r\nann@example.com\\', phone_number = E'\\.\n'
        where id = 1
    ";
    sqlx::raw_sql(damage).execute(&mut ledger.superuser().await).await.unwrap();
    assert_eq!(rebuild(&ledger.database).await.unwrap().contacts_len, 2);
    let is_whole = "select count(*) = 2 and bool_or(c.email = o.email)
            and bool_or(c.phone_number = o.phone_number)
        from contact as c
        left join observation as o on o.id = c.id and o.id = 1";
    let mut owner = ledger.owner().await;
    assert!(query_scalar::<_, bool>(is_whole).fetch_one(&mut owner).await.unwrap());
    let error = ledger.verify().await.err().unwrap().to_string();
    assert!(error.contains("commitment"), "{error}");
}

#[tokio::test]
async fn a_damaged_table_is_named_and_a_rebuild_repairs_it() {
    let (ledger, _service) = filled(5, 300, 100).await;
    let mut owner = ledger.owner().await;
    for (damage, named) in [
        ("update contact set email = 'x@y' where id = 1", "contact 1: email "),
        ("update contact set phone_number = '9' where id = 1", "contact 1: phone_number "),
        ("update contact set email_key = null where id = 1", "contact 1: email_key "),
        ("update contact set phone_key = 'z' where id = 1", "contact 1: phone_key "),
        ("update contact set linked_id = 2 where id = 1", "contact 1: linked_id "),
        ("update contact set created_at = now() where id = 1", "contact 1: created_at "),
        ("update contact set updated_at = now() where id = 1", "contact 1: updated_at "),
        ("delete from contact where id = 1", "expected contact 1, found none"),
        (
            "insert into contact (id, link_precedence, created_at, updated_at)
            values (0, 'primary', now(), now())",
            "expected no contact 0",
        ),
        (
            "insert into contact (id, link_precedence, created_at, updated_at)
            values (999, 'primary', now(), now())",
            "expected no contact 999",
        ),
        ("truncate contact", "expected contact 1, found none"),
    ] {
        query(AssertSqlSafe(damage)).execute(&mut owner).await.unwrap();
        let error = format!("{:#}", ledger.verify().await.err().expect(damage));
        assert!(error.contains(named), "{damage}: {error}");
        rebuild(&ledger.database).await.unwrap();
        ledger.verify().await.unwrap();
    }
}

#[tokio::test]
async fn rebuilds_and_verifications_hold_while_requests_run() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all = random_observations(6, 3000, 500);
    let done = AtomicBool::new(false);
    let load = async {
        service.identify_all(&all).await;
        done.store(true, Ordering::Relaxed);
    };
    let operate = async {
        let mut times = 0;
        while !done.load(Ordering::Relaxed) || times < 3 {
            rebuild(&ledger.database).await.unwrap();
            ledger.verify().await.unwrap();
            times += 1;
        }
    };
    tokio::join!(load, operate);
    let shown = service.contacts(3000).await;
    Model::of(&all).check(shown);
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn a_long_reader_delays_the_swap_and_not_the_callers() {
    let (ledger, service) = filled(7, 50, 20).await;
    let mut reader = ledger.owner().await;
    sqlx::raw_sql("begin; select count(*) from contact").execute(&mut reader).await.unwrap();
    let read = async {
        ledger.until_waited_for("contact").await;
        for n in 0..20 {
            service.identify(&Seen::new(&format!("meanwhile{n}@x.org"), "")).await;
        }
        sqlx::raw_sql("commit").execute(&mut reader).await.unwrap();
    };
    let (rebuilt, ()) = tokio::join!(rebuild(&ledger.database), read);
    rebuilt.unwrap();
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn a_vacuum_of_the_new_table_delays_the_swap() {
    let (ledger, _service) = filled(12, 50, 20).await;
    let mut reader = ledger.owner().await;
    sqlx::raw_sql("begin; select count(*) from contact").execute(&mut reader).await.unwrap();
    let in_the_way = async {
        ledger.until_waited_for("contact").await;
        let mut vacuum = ledger.owner().await;
        // The lock of a vacuum, for longer than the swap waits.
        let lock = "begin; lock table contact_next in share update exclusive mode";
        sqlx::raw_sql(lock).execute(&mut vacuum).await.unwrap();
        query("commit").execute(&mut reader).await.unwrap();
        sleep(Duration::from_millis(900)).await;
        query("commit").execute(&mut vacuum).await.unwrap();
    };
    let (rebuilt, ()) = tokio::join!(rebuild(&ledger.database), in_the_way);
    rebuilt.unwrap();
    ledger.verify().await.unwrap();
    let mut owner = ledger.owner().await;
    let options = "select reloptions is null from pg_class where oid = 'contact'::regclass";
    let is_vacuumed: bool = query_scalar(options).fetch_one(&mut owner).await.unwrap();
    assert!(is_vacuumed);
}

#[tokio::test]
async fn an_interrupted_rebuild_leaves_nothing_that_the_next_one_minds() {
    let (ledger, service) = filled(8, 50, 20).await;
    let mut owner = ledger.owner().await;
    query("create table contact_next (left_over bigint)").execute(&mut owner).await.unwrap();
    rebuild(&ledger.database).await.unwrap();
    service.identify(&Seen::new("after@x.org", "")).await;
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn who_may_read_the_table_may_read_the_new_one() {
    let (ledger, _service) = filled(10, 10, 5).await;
    let mut owner = ledger.owner().await;
    let grants = "
        grant select on contact to public;
        grant select, update on contact to pg_monitor with grant option;
        grant update (email, phone_number) on contact to pg_read_all_data;
    ";
    sqlx::raw_sql(grants).execute(&mut owner).await.unwrap();
    let granted = "
        select array_agg(concat_ws(' ', attname, acl) order by attname, acl::text)
        from (
            select null::name as attname, unnest(relacl) as acl
            from pg_class
            where oid = 'contact'::regclass
            union all
            select attname, unnest(attacl) from pg_attribute where attrelid = 'contact'::regclass
        ) as granted";
    let before: Vec<String> = query_scalar(granted).fetch_one(&mut owner).await.unwrap();
    assert_eq!(before.len(), 5);
    rebuild(&ledger.database).await.unwrap();
    let after: Vec<String> = query_scalar(granted).fetch_one(&mut owner).await.unwrap();
    assert_eq!(after, before);
}

/// A superuser who makes the table anew does not take it from the service.
#[tokio::test]
async fn a_new_table_belongs_to_the_owner_of_the_ledger() {
    let (ledger, service) = filled(11, 10, 5).await;
    let superuser = ledger.url.replace("//shop@", "//postgres@");
    succeeds(&mut command(&["rebuild", "--database-url", &superuser]));
    service.identify(&Seen::new("after@x.org", "")).await;
    rebuild(&ledger.database).await.unwrap();
}

#[tokio::test]
async fn what_depends_on_the_table_is_named_before_the_work_is_done() {
    let (ledger, _service) = filled(11, 10, 5).await;
    let mut owner = ledger.owner().await;
    let dependents = "
        create view customer as select id, email from contact;
        create table note (contact_id bigint constraint of_whom references contact);
        create function whole() returns setof contact language sql as 'select * from contact';
        -- These would go with the table, and no one would notice.
        alter table contact add constraint positive check (id > 0);
        create index by_email on contact (lower(email));
    ";
    sqlx::raw_sql(dependents).execute(&mut owner).await.unwrap();
    let error = rebuild(&ledger.database).await.err().unwrap().to_string();
    let named = "(constraint of_whom on table note, constraint positive on table contact, \
                 function whole(), index by_email, view customer)";
    assert!(error.contains(named) && error.contains("create them again after"), "{error}");
    let next = "select to_regclass('contact_next') is null";
    assert!(query_scalar::<_, bool>(next).fetch_one(&mut owner).await.unwrap());
    let drop = "drop view customer; drop table note; drop function whole(); drop index by_email;
        alter table contact drop constraint positive";
    sqlx::raw_sql(drop).execute(&mut owner).await.unwrap();
    // Subscribers have no table contact_next, and would stop.
    let mut superuser = ledger.superuser().await;
    query("create publication whole for all tables").execute(&mut superuser).await.unwrap();
    let error = rebuild(&ledger.database).await.err().unwrap().to_string();
    assert!(error.contains("(publication whole)"), "{error}");
    query("drop publication whole").execute(&mut superuser).await.unwrap();
    rebuild(&ledger.database).await.unwrap();
    ledger.verify().await.unwrap();
}

/// An empty table would begin everyone anew, in events that cannot be taken back.
#[tokio::test]
async fn a_table_that_is_missing_is_not_taken_for_an_empty_one() {
    let (ledger, service) = filled(12, 10, 5).await;
    let before = service.contact(1).await;
    let seen = Seen::new(&before.emails[0], "");
    query("drop table contact").execute(&mut ledger.owner().await).await.unwrap();
    assert!(!service.try_identify(&seen).await.unwrap().status().is_success());
    assert!(service.stop().success());
    let url = ["--database-url", &ledger.url];
    let said = refuses(command(SERVE).args(url));
    assert_eq!(said, "error: the contact table is missing; run identity-ledger rebuild\n");
    succeeds(command(&["rebuild"]).args(url));
    ledger.verify().await.unwrap();
    let service = Service::start(&ledger.url);
    assert_eq!(service.identify(&seen).await, before);
    ledger.verify().await.unwrap();
}

/// It was wrong, and a service had answered from it.
#[tokio::test]
async fn a_table_that_was_mended_is_what_services_decide_from() {
    // A lone request is appended by one statement, and one with a key by another.
    for has_key in [false, true] {
        let ledger = TestLedger::new().await;
        let service = Service::start(&ledger.url);
        service.identify(&Seen::new("a@x.org", "1")).await;
        let whole = service.identify(&Seen::new("b@x.org", "1")).await;
        assert!(service.stop().success());
        query("update contact set linked_id = null where id = 2")
            .execute(&mut ledger.owner().await)
            .await
            .unwrap();
        let service = Service::start(&ledger.url);
        let seen = Seen::new("b@x.org", "");
        assert_eq!(service.identify(&seen).await.primary_contact_id, 2);
        rebuild(&ledger.database).await.unwrap();
        if has_key {
            let answer = service.try_identify_once(&seen, "key").await.unwrap();
            let answer: Value = answer.json().await.unwrap();
            assert_eq!(answer["contact"]["primaryContactId"], whole.primary_contact_id);
        }
        for _ in 0..2 {
            assert_eq!(service.identify(&seen).await, whole);
        }
    }
}

/// No one can say whom it belongs to; of everyone else the table still says it.
#[tokio::test]
async fn a_contact_without_its_primary_fails_alone() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("a@x.org", "1")).await;
    let keyed = Seen::new("b@x.org", "1");
    assert!(service.try_identify_once(&keyed, "key").await.unwrap().status().is_success());
    let whole = service.contact(2).await;
    let other = service.identify(&Seen::new("c@x.org", "")).await;
    assert!(service.stop().success());
    let mut owner = ledger.owner().await;
    for (damage, stray_id) in [
        ("delete from contact where id = 1", 2),
        ("update contact set linked_id = 3, email_key = null, phone_key = null where id = 1", 1),
    ] {
        query(AssertSqlSafe(damage)).execute(&mut owner).await.unwrap();
        let service = Service::start(&ledger.url);
        let (stray, fine) = (Seen::new("b@x.org", ""), Seen::new("c@x.org", ""));
        let all = [&stray, &fine, &stray, &fine];
        for (seen, response) in
            all.iter().zip(join_all(all.map(|it| service.try_identify(it))).await)
        {
            let status = response.unwrap().status();
            assert_eq!(status, if seen.email == stray.email { 500 } else { 200 });
        }
        assert_eq!(service.get("/contacts/2").await.status(), 500);
        // It is in the ledger, and a caller who believed otherwise would send it with another key.
        let retried = service.try_identify_once(&keyed, "key").await.unwrap();
        assert_eq!(retried.status(), 500);
        assert_eq!(retried.json::<Value>().await.unwrap()["recorded"], "unknown");
        let told = format!(
            "the contact table is damaged: contact {stray_id} is linked to a contact that is not a primary; \
             identity-ledger rebuild makes the table anew"
        );
        until("it is told", || service.log().contains(&told));
        rebuild(&ledger.database).await.unwrap();
        assert_eq!(service.identify(&stray).await, whole);
        assert_eq!(service.identify(&fine).await, other);
        assert!(service.stop().success());
    }
}

/// A table without its contact would be one from which others are decided.
#[tokio::test]
async fn an_observation_that_is_missing_is_not_left_out() {
    let (ledger, service) = filled(13, 40, 10).await;
    assert!(service.stop().success());
    let mut superuser = ledger.superuser().await;
    for damage in [
        "update observation set email = null, phone_number = null, salt = null where id = 1",
        "alter table observation disable trigger all; delete from observation where id = 1",
    ] {
        sqlx::raw_sql(AssertSqlSafe(damage)).execute(&mut superuser).await.unwrap();
        let error = rebuild(&ledger.database).await.err().expect(damage).to_string();
        assert!(error.contains("have lost their values: 1;"), "{error}");
        let order = ledger.order(EXACT_RULES).await;
        let error = activate(&ledger.database, order).await.err().expect(damage).to_string();
        assert!(error.contains("observation 1 is missing"), "{error}");
    }
    let exact = Rules::parse(EXACT_RULES).unwrap();
    let error = impact(&ledger.database, exact).await.err().unwrap().to_string();
    assert!(error.contains("observations are missing; run identity-ledger verify"), "{error}");
}

/// What is read in a task of its own ends there where a row cannot be decoded.
#[tokio::test]
async fn a_row_that_cannot_be_read_is_not_taken_for_the_end() {
    let (ledger, service) = filled(14, 10, 5).await;
    assert!(service.stop().success());
    let damage = "alter table observation disable trigger all;
        update observation set observed_at = 'infinity' where id = 10";
    sqlx::raw_sql(damage).execute(&mut ledger.superuser().await).await.unwrap();
    let says = "a row cannot be read; run identity-ledger verify";
    let error = rebuild(&ledger.database).await.err().unwrap().to_string();
    assert!(error.contains(says), "{error}");
    let exact = Rules::parse(EXACT_RULES).unwrap();
    let error = impact(&ledger.database, exact).await.err().unwrap().to_string();
    assert!(error.contains(says), "{error}");
}

/// Lines that no service can have written in this order.
#[tokio::test]
async fn a_line_that_contradicts_those_before_it_is_named() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x.org", "1"), ("b@x.org", "1"), ("c@x.org", "1")]).await;
    assert!(service.stop().success());
    // Position 4 links contact 2 to contact 1.
    for (from, to) in [
        (r#""primaryId":1"#, r#""primaryId":2"#),
        (r#""primaryId":1"#, r#""primaryId":3"#),
        (r#""primaryId":1"#, r#""primaryId":0"#),
        (r#""primaryId":1"#, r#""primaryId":-9223372036854775808"#),
        (r#""contactId":2"#, r#""contactId":9223372036854775807"#),
        (r#""contactId":2"#, r#""contactId":1"#),
    ] {
        let copy = ledger.copy().await;
        let forge = format!(
            "alter table event disable trigger append_only;
            update event set line = replace(line, '{from}', '{to}') where position = 4"
        );
        sqlx::raw_sql(AssertSqlSafe(forge)).execute(&mut copy.superuser().await).await.unwrap();
        let error = rebuild(&copy.database).await.err().expect(to).to_string();
        assert!(error.contains("event 4 contradicts those before it"), "{to}: {error}");
        let error = copy.verify().await.err().expect(to).to_string();
        assert!(error.contains("event 4"), "{to}: {error}");
    }
}

/// There may be anything in it.
#[tokio::test]
async fn a_line_that_is_no_event_is_named_and_nothing_of_it_is_repeated() {
    let (ledger, service) = filled(15, 20, 10).await;
    assert!(service.stop().success());
    for (damage, said) in [
        (
            "update event set line = 'canary' where position = 10",
            "event 10 is not what an event looks like; run identity-ledger verify",
        ),
        (
            r#"update event set line = replace(line, '"ContactObserved"', '"canary"')
               where position = 2"#,
            "event 2 is not what an event looks like; run identity-ledger verify",
        ),
        (
            r#"update event set line = replace(line, '"new"', '{"canary":1}') where position = 2"#,
            "event 2 is not what an event looks like; run identity-ledger verify",
        ),
        (
            r#"update event set line = replace(line, '"digest":"', '"digest":7,"canary":"')
               where position = 1"#,
            "event 1 is not what an event looks like; run identity-ledger verify",
        ),
        ("delete from event where position = 7", "event 7 is missing; run identity-ledger verify"),
        (
            "delete from event where position = (select max(position) from event)",
            "table head says that the last event is",
        ),
    ] {
        let copy = ledger.copy().await;
        let forge = format!("alter table event disable trigger all; {damage}");
        sqlx::raw_sql(AssertSqlSafe(forge)).execute(&mut copy.superuser().await).await.unwrap();
        let told = refuses(command(&["rebuild"]).args(["--database-url", &copy.url]));
        assert!(told.contains(said) && !told.contains("canary"), "{damage}: {told}");
        let listed = command(&["rules", "list"]).args(["--database-url", &copy.url]).output();
        let listed = String::from_utf8(listed.unwrap().stderr).unwrap();
        assert!(!listed.contains("canary"), "{listed}");
    }
}

#[tokio::test]
async fn what_an_interrupted_rebuild_left_is_not_waited_for() {
    let (ledger, _service) = filled(14, 10, 5).await;
    let mut reader = ledger.owner().await;
    query("create table contact_next (like contact)").execute(&mut reader).await.unwrap();
    let read = "begin; lock table contact_next in access share mode";
    sqlx::raw_sql(read).execute(&mut reader).await.unwrap();
    let error = rebuild(&ledger.database).await.err().unwrap().to_string();
    assert!(error.contains("contact_next") && error.contains("end the long query"), "{error}");
    sqlx::raw_sql("commit").execute(&mut reader).await.unwrap();
    rebuild(&ledger.database).await.unwrap();
}

#[tokio::test]
async fn one_rebuild_runs_at_a_time() {
    let (ledger, _service) = filled(9, 10, 5).await;
    let mut owner = ledger.owner().await;
    query(
        "select pg_advisory_lock(hashtext('identity-ledger rebuild'), hashtext(current_schema()))",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    let error = rebuild(&ledger.database).await.err().unwrap();
    assert!(error.to_string().contains("running already"), "{error}");
    // Whose session has only just ended is not in the way.
    drop(owner);
    rebuild(&ledger.database).await.unwrap();
}

#[tokio::test]
async fn a_table_of_another_version_is_refused_until_it_is_rebuilt() {
    let (ledger, service) = filled(10, 300, 60).await;
    assert!(service.stop().success());
    // As an earlier version defined it.
    let older = "
        alter table contact drop column link_precedence;
        alter table contact add column link_precedence text not null generated always as (
            case when linked_id is null then 'primary' else 'secondary' end
        ) stored;
        comment on table contact is 'identity-ledger definition older';
    ";
    sqlx::raw_sql(older).execute(&mut ledger.owner().await).await.unwrap();
    let url = ["--database-url", &ledger.url];
    for args in [SERVE, &["verify"]] {
        let error = refuses(command(args).args(url));
        assert!(error.contains("identity-ledger rebuild"), "{error}");
    }
    succeeds(command(&["rebuild"]).args(url));
    succeeds(command(&["verify"]).args(url));
}

#[tokio::test]
async fn a_decision_that_the_resolver_would_not_make_is_named() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x.org", "1"), ("b@x.org", "2"), ("a@x.org", "")]).await;
    let mut superuser = ledger.superuser().await;
    // Line and columns agree, and nothing was signed: only deciding again can tell.
    let forge = r#"
        alter table event disable trigger append_only;
        update event
        set line = replace(replace(line, '"heldBy":1', '"heldBy":2'), '"contactId":1', '"contactId":2'),
            contact_id = 2
        where position = 4;
    "#;
    sqlx::raw_sql(forge).execute(&mut superuser).await.unwrap();
    let error = ledger.verify().await.err().unwrap().to_string();
    assert!(error.contains("event 4: decision: expected ContactObserved"), "{error}");
}
