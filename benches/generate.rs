//! A seeded ledger that looks like life, made in blocks that share no identifier: 30 % of what
//! is observed repeats something, a fifth brings news of a customer that is known; values
//! are spelled in many ways, mistyped, shared in families, and a few by very many.

use crate::history::{History, Rows};
use crate::postgres::{Cloned, execute};
use crate::traffic::{BLOCK_CUSTOMERS_LEN, EmailOf, PhoneOf, Seen, big, seeded};
use anyhow::Context as _;
use identity_ledger::projection;
use tokio::sync::mpsc;

/// Values that customers come to have later.
const LATER: u64 = 1_000_000_000;

/// Fills an empty ledger with blocks of about 10,000 contacts, and one big identity.
///
/// Memory is bounded by the block; one core generates while Postgres uses the other.
pub async fn fill(cloned: &Cloned, blocks_len: u64, big_len: u64) -> anyhow::Result<()> {
    let mut owner = cloned.database.owner().await?;
    projection::create_next(&mut owner).await?;
    let mut history = History::after(&mut owner).await?;
    let (sender, mut blocks) = mpsc::channel(2);
    let generator = std::thread::spawn(move || -> anyhow::Result<()> {
        let mut life = Life { random: fastrand::Rng::with_seed(2), later: LATER };
        for block in 0..blocks_len {
            history.begin_block();
            life.fill_block(&mut history, block)?;
            send(&sender, history.take_rows())?;
        }
        history.begin_block();
        for n in 0..big_len {
            history.observe(big(n))?;
        }
        send(&sender, history.take_rows())
    });
    let mut copied_len = 0;
    while let Some(rows) = blocks.recv().await {
        rows.copy(&mut owner, "contact_next").await?;
        copied_len += 1;
        if copied_len % 50 == 0 {
            eprintln!("  {copied_len} of {blocks_len} blocks");
        }
    }
    generator.join().ok().context("the generator panicked")??;
    eprintln!("  building indexes");
    projection::index_next(&mut owner).await?;
    projection::analyze_next(&mut owner).await?;
    execute(&mut owner, "begin; lock table contact; lock table head").await?;
    projection::swap_in_next(&mut owner).await?;
    execute(&mut owner, "commit").await?;
    execute(&mut owner, "vacuum (analyze)").await
}

fn send(sender: &mpsc::Sender<Rows>, rows: Rows) -> anyhow::Result<()> {
    sender.blocking_send(rows).ok().context("no one takes the rows")
}

struct Life {
    random: fastrand::Rng,
    later: u64,
}

impl Life {
    fn fill_block(&mut self, history: &mut History, block: u64) -> anyhow::Result<()> {
        let first = block * BLOCK_CUSTOMERS_LEN;
        for newest in first..first + BLOCK_CUSTOMERS_LEN {
            history.observe(seeded(newest))?;
            while self.random.u32(..100) < 55 {
                let [one, another] = [(); 2].map(|()| seeded(self.random.u64(first..=newest)));
                match self.random.u32(..1000) {
                    0..545 => self.repeat(history, one)?,
                    545..945 => {
                        let news = self.news_of(one);
                        history.observe(news)?;
                    }
                    945..985 => self.mistype(history, one)?,
                    _ => history.observe(Seen { email: one.email, phone: another.phone })?,
                }
            }
        }
        Ok(())
    }

    /// A third of the time in another spelling.
    fn repeat(&mut self, history: &mut History, known: Seen) -> anyhow::Result<()> {
        if self.random.u32(..3) > 0 {
            return history.observe(known);
        }
        let email = known.email.map(|n| format!(" {} ", EmailOf(n).to_string().to_uppercase()));
        let phone_number = known.phone.map(|n| {
            let plain = PhoneOf(n).to_string();
            format!("{} {} {}-{}", &plain[..3], &plain[3..6], &plain[6..9], &plain[9..])
        });
        history.observe_values(email.as_deref(), phone_number.as_deref())
    }

    fn news_of(&mut self, known: Seen) -> Seen {
        self.later += 1;
        if known.phone.is_none() || known.email.is_some() && self.random.bool() {
            Seen { phone: Some(self.later), ..known }
        } else {
            Seen { email: Some(self.later), ..known }
        }
    }

    /// A letter of the name is missing; the number in it keeps it apart from all others.
    fn mistype(&mut self, history: &mut History, known: Seen) -> anyhow::Result<()> {
        let email = known.email.map(|n| {
            let mut email = EmailOf(n).to_string();
            email.remove(self.random.usize(..4));
            email
        });
        let phone_number = known.phone.map(|n| PhoneOf(n).to_string());
        history.observe_values(email.as_deref(), phone_number.as_deref())
    }
}
