//! The only key to a region. A [`Permit`] is made by [`Policy::permit`](crate::Policy::permit) and
//! nowhere else, opens one region for one subject and one operation, and is spent by use: its fields
//! are private and it is not `Clone`.

use std::marker::PhantomData;

use crate::decision::{Decision, DecisionId, Operation};
use crate::words::{Epoch, Region, SubjectId};

/// Marks a permit that may only look.
#[derive(Debug)]
pub struct Read(());

/// Marks a permit that may change.
#[derive(Debug)]
pub struct Write(());

/// What kind of access a permit allows. Sealed: [`Read`] and [`Write`] are all there are.
pub trait Access: sealed::Sealed + Send + 'static {
    /// Whether this access may change what a region holds.
    const WRITES: bool;
}

impl Access for Read {
    const WRITES: bool = false;
}

impl Access for Write {
    const WRITES: bool = true;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Read {}
    impl Sealed for super::Write {}
}

/// The unforgeable, single-use proof of an allowed operation on one subject in one region.
///
/// ```compile_fail
/// fn twice(permit: residency::Permit<residency::Read>) {
///     let copy = permit.clone(); // a permit is single-use
/// }
/// ```
///
/// ```compile_fail
/// // and there is no other way to come by one
/// let forged = residency::Permit::<residency::Write> { .. };
/// ```
#[derive(Debug)]
#[must_use = "a permit that is not carried to its region decided nothing"]
pub struct Permit<Access> {
    subject: SubjectId,
    region: Region,
    epoch: Epoch,
    decision: Box<Decision>,
    access: PhantomData<Access>,
}

impl<Access> Permit<Access> {
    pub(crate) fn issue(subject: SubjectId, region: Region, epoch: Epoch, decision: Decision) -> Self {
        Self { subject, region, epoch, decision: Box::new(decision), access: PhantomData }
    }

    /// The one subject.
    #[must_use]
    pub fn subject(&self) -> &SubjectId {
        &self.subject
    }

    /// The one region.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Which of the subject's homes is meant; the region compares it with its own before anything happens.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The decision behind it, for the log.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The decision's name.
    #[must_use]
    pub fn decision_id(&self) -> DecisionId {
        self.decision.id
    }

    /// What is allowed.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.decision.operation
    }

    /// Binds what is to be done to the proof that it may be done.
    pub fn carry<Deed>(self, deed: Deed) -> Permitted<Access, Deed> {
        Permitted { permit: self, deed }
    }
}

/// A deed together with the permit for it: what a region's doors ask for.
#[derive(Debug)]
#[must_use = "a permitted deed that reaches no region is not done"]
pub struct Permitted<Access, Deed> {
    permit: Permit<Access>,
    deed: Deed,
}

impl<Access, Deed> Permitted<Access, Deed> {
    /// The permit.
    pub fn permit(&self) -> &Permit<Access> {
        &self.permit
    }

    /// What is to be done.
    pub fn deed(&self) -> &Deed {
        &self.deed
    }

    /// Spends it.
    pub fn into_parts(self) -> (Permit<Access>, Deed) {
        (self.permit, self.deed)
    }
}
