//! The four rates by which online services are judged: of all dossiers received, processed, paid and returned, how many were
//! so online. Each keeps what it was computed from. Pure.

use super::rows::Step;
use super::tables::DossierCount;

/// The steps of the four rates, in the order of a dossier's way. *Received* is the step `submitted`.
pub const RATED: [Step; 4] = [Step::Submitted, Step::Processed, Step::Paid, Step::Returned];

/// A rate with its numerator and denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnlineRate {
    pub step: Step,
    pub online: i64,
    pub all: i64,
}

/// The rates of one agency.
pub fn online_rates(counts: &[DossierCount], agency: &str) -> [OnlineRate; 4] {
    RATED.map(|step| {
        let of_step = counts.iter().filter(|count| count.agency == agency && count.step == step.as_str());
        let (mut online, mut all) = (0, 0);
        for count in of_step {
            all += count.count;
            if count.channel == "online" {
                online += count.count;
            }
        }
        OnlineRate { step, online, all }
    })
}
