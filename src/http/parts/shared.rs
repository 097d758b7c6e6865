//! Shares one answer among all who ask at the same time, so that open routes take at most one Postgres
//! session each.

use super::problem::Problem;
use super::question::ask_within;
use crate::identity::Gaps;
use crate::ledger::Unanswered;
use crate::seal::StoredCheckpoint;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// What is asked without a token.
#[derive(Default)]
pub struct SharedAnswers {
    pub ready: Shared<()>,
    pub checkpoint: Shared<Option<StoredCheckpoint>>,
    pub gaps: Shared<Gaps>,
}

/// The last answer to one question.
#[derive(Default)]
pub struct Shared<T> {
    last: Mutex<Option<Answer<T>>>,
}

struct Answer<T> {
    /// Those who come later ask anew.
    good_until: Instant,
    answer: Result<T, Problem>,
}

impl<T: Clone> Shared<T> {
    /// As `ask_within`. The answer was read at most `age_max` before it was asked for. A failure is shared
    /// with those alone who waited for it.
    pub async fn ask<E: Into<Unanswered>>(
        &self,
        age_max: Duration,
        wait_max: Duration,
        question: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(last) = last.as_ref().filter(|last| came <= last.good_until) {
            return last.answer.clone();
        }
        let begun = Instant::now();
        let answer = ask_within(wait_max, question).await;
        let good_until = if answer.is_ok() { begun + age_max } else { Instant::now() };
        *last = Some(Answer { good_until, answer: answer.clone() });
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Fault;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::time::sleep;

    /// A question that takes 10 ms, and how often it was asked.
    #[derive(Default)]
    struct Questions {
        shared: Shared<u32>,
        asked: AtomicU32,
    }

    impl Questions {
        async fn ask(&self, age_max: Duration, fails: bool) -> Result<u32, Problem> {
            let question = async {
                sleep(Duration::from_millis(10)).await;
                let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
                if fails { Err(Fault::Data("22000".to_owned())) } else { Ok(number) }
            };
            self.shared.ask(age_max, Duration::from_secs(1), question).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_shared_for_as_long_as_it_is_young_enough() {
        let questions = Questions::default();
        let age_max = Duration::from_millis(200);
        let answers = join_all((0..50).map(|_| questions.ask(age_max, false))).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap() == 1));
        sleep(Duration::from_millis(150)).await;
        assert_eq!(questions.ask(age_max, false).await.unwrap(), 1);
        sleep(Duration::from_millis(150)).await;
        assert_eq!(questions.ask(age_max, false).await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_what_is_so_now_shares_with_those_who_wait_with_them() {
        let questions = Questions::default();
        let early = join_all((0..50).map(|_| questions.ask(Duration::ZERO, false)));
        let late = async {
            sleep(Duration::from_millis(5)).await;
            join_all((0..50).map(|_| questions.ask(Duration::ZERO, false))).await
        };
        let (early, late) = tokio::join!(early, late);
        assert!(early.into_iter().all(|answer| answer.unwrap() == 1));
        assert!(late.into_iter().all(|answer| answer.unwrap() == 2), "the first began before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_with_those_who_waited_for_it() {
        let questions = Questions::default();
        let early = questions.ask(Duration::ZERO, true);
        let late = async {
            sleep(Duration::from_millis(5)).await;
            questions.ask(Duration::ZERO, true).await
        };
        let (early, late) = tokio::join!(early, late);
        assert!(early.is_err() && late.is_err());
        assert_eq!(questions.asked.load(Ordering::Relaxed), 1);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(questions.ask(Duration::ZERO, false).await.unwrap(), 2);
    }
}
