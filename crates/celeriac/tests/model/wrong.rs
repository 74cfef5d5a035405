//! The wrong orders that the design warns of, and the promise that each of them breaks.

use super::promises::Promise;

/// One deliberate mistake. At most one is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The take script pops first; the write after it is refused.
    PopBeforeClaim,
    /// BRPOP, and the record in a second command: Python's way.
    ClaimAfterReply,
    /// Two messages of one `delivery_tag` overwrite each other in `unacked`.
    ClaimByDeliveryTag,
    /// A take whose reply was lost is forgotten.
    LostReplyForgotten,
    /// The script that gives back removes the claim, then pushes.
    RemoveBeforePush,
    /// The script that gives back pushes, whether the claim is still there or not.
    RequeueBlindly,
    /// The dead-letter script removes the claim, then writes.
    RemoveBeforeDeadLetter,
    /// A worker that was away settles without asking whether the message is still its own.
    SettleUnasked,
    /// A worker trusts its claims by the visibility timeout, though the others judge it by its silence.
    SureByRenewalAlone,
    /// Nothing is renewed.
    NoRenewal,
    /// An outage of the broker counts as everybody's silence.
    OutageIsSilence,
    /// After an outage, what is old is restored before the living could renew it.
    NoGraceAfterOutage,
    /// A worker is dead when its beat is old by the wall clock.
    DeadByWallClock,
    /// What was seen old or silent is given back later, without looking again.
    RestoreUnchecked,
    /// The message is acknowledged, then its result is stored.
    AckBeforeStore,
    /// The result is stored, then what follows is sent.
    StoreBeforeSend,
    /// A second run gives new ids to what follows.
    NewIdsOnSecondRun,
    /// Poison is counted by deliveries: innocents that were only prefetched are parked.
    DeliveriesCounted,
    /// A suspect runs beside others: innocents are parked with it.
    SuspectsTogether,
    /// The start is marked after the task has run: poison is never counted.
    StartMarkedLate,
}

/// Each mistake, and what it breaks.
pub(crate) const TABLE: &[(Wrong, Promise)] = &[
    (Wrong::PopBeforeClaim, Promise::NeverNowhere),
    (Wrong::ClaimAfterReply, Promise::NeverNowhere),
    (Wrong::ClaimByDeliveryTag, Promise::NeverNowhere),
    (Wrong::LostReplyForgotten, Promise::OneOwner),
    (Wrong::RemoveBeforePush, Promise::NeverNowhere),
    (Wrong::RequeueBlindly, Promise::OneOwner),
    (Wrong::RemoveBeforeDeadLetter, Promise::NeverNowhere),
    (Wrong::SettleUnasked, Promise::OneOwner),
    (Wrong::SureByRenewalAlone, Promise::OneOwner),
    (Wrong::NoRenewal, Promise::OneOwner),
    (Wrong::OutageIsSilence, Promise::OneOwner),
    (Wrong::NoGraceAfterOutage, Promise::OneOwner),
    (Wrong::DeadByWallClock, Promise::OneOwner),
    (Wrong::RestoreUnchecked, Promise::OneOwner),
    (Wrong::AckBeforeStore, Promise::OrderOfSettling),
    (Wrong::StoreBeforeSend, Promise::OrderOfSettling),
    (Wrong::NewIdsOnSecondRun, Promise::SameIds),
    (Wrong::DeliveriesCounted, Promise::HarmsNobody),
    (Wrong::SuspectsTogether, Promise::HarmsNobody),
    (Wrong::StartMarkedLate, Promise::AllSettled),
];
