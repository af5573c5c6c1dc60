//! Threads that share work of microseconds: they look for it instead of sleeping, so that a piece begins a few hundred
//! nanoseconds after it is offered.
//! In: threads of the caller's, one that leads and some that [`Team::help`]. Out: every piece of [`Leader::map`] done once, by whoever came
//! first; nobody waits for a helper that never came. Helpers stay for a while when there is no leader: to wake a thread takes
//! as long as many layers.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Mutex, PoisonError};

/// Piece i of some work.
type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// Some threads while they work together; nobody at first.
#[derive(Default)]
pub struct Team {
    /// Pieces that nobody has taken yet in the low bits, above them how often work was offered.
    offer: AtomicU64,
    /// What is offered.
    work: UnsafeCell<Option<*const Work<'static>>>,
    /// Pieces done.
    done: AtomicUsize,
    /// The first panic of a piece.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    led: AtomicBool,
    /// Helpers that are here or on their way.
    helpers: AtomicUsize,
}

// SAFETY: `work` is written by the leader alone, while no piece is taken or left, and read by those who have taken one.
unsafe impl Sync for Team {}
// SAFETY: as above; what it points to is `Sync`.
unsafe impl Send for Team {}

/// Bits that count the pieces left.
const PIECES: u32 = 16;
/// The most pieces there can be.
const MOST: u64 = (1 << PIECES) - 1;
/// How often to look before other threads get a turn, and before a helper without a leader goes: a tenth of a millisecond and one
/// or a few.
const LOOKS: u32 = 1 << 12;
const STAYS: u32 = LOOKS + (1 << 12);

impl Team {
    /// How many helpers to send for, so that there are as many as wanted; each must call [`Team::help`].
    pub fn missing(&self, wanted: usize) -> usize {
        let before = self.helpers.fetch_max(wanted, AcqRel);
        wanted.saturating_sub(before)
    }

    /// Does pieces of work until there has been no leader for a while; who comes too late for one goes at once.
    pub fn help(&self) {
        let is_late = !self.led.load(Acquire);
        let mut looks = 0;
        while !is_late && (looks < STAYS || self.led.load(Acquire)) {
            looks = if self.piece() { 0 } else { wait(looks) };
        }
        self.helpers.fetch_sub(1, AcqRel);
    }

    /// Leads the team while `work` runs.
    ///
    /// # Panics
    /// If another does.
    pub fn lead<R>(&self, work: impl FnOnce(&Leader<'_>) -> R) -> R {
        assert!(!self.led.swap(true, AcqRel), "a team has one leader");
        let _end = End(&self.led);
        work(&Leader { team: self, here: PhantomData })
    }

    /// Takes a piece and does it, if there is one.
    fn piece(&self) -> bool {
        let offer = self.offer.load(Acquire);
        if offer & MOST == 0 || self.offer.compare_exchange(offer, offer - 1, AcqRel, Relaxed).is_err() {
            return false;
        }
        // SAFETY: a piece was taken that is not done, so the leader still waits: what it offered is there and stays as it is.
        let work = unsafe { (*self.work.get()).map(|work| &*work) };
        if let Some(work) = work
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| work((offer & MOST) as usize - 1)))
        {
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
        self.done.fetch_add(1, AcqRel);
        true
    }
}

/// Says that a team has no leader any more, also where that one panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

/// Nothing to do for a moment; how often that was so.
fn wait(looks: u32) -> u32 {
    if looks < LOOKS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
    looks.saturating_add(1)
}

/// The one thread that offers work.
pub struct Leader<'a> {
    team: &'a Team,
    /// It stays on its thread.
    here: PhantomData<Cell<()>>,
}

impl Leader<'_> {
    /// Does every piece, with the help of others, and returns what they make, in order.
    ///
    /// # Panics
    /// If a piece does, after all are done.
    pub fn map<W: Send, R: Send>(&self, pieces: Vec<W>, work: impl Fn(W) -> R + Sync) -> Vec<R> {
        let slots: Vec<Mutex<(Option<W>, Option<R>)>> =
            pieces.into_iter().map(|piece| Mutex::new((Some(piece), None))).collect();
        self.each(slots.len(), &|i| {
            let mut slot = slots[i].lock().unwrap_or_else(PoisonError::into_inner);
            slot.1 = slot.0.take().map(&work);
        });
        let results =
            slots.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner).1);
        results.map(|result| result.expect("every piece is done")).collect()
    }

    fn each(&self, many: usize, work: &Work<'_>) {
        let team = self.team;
        let pieces = u64::try_from(many).ok().filter(|n| *n <= MOST).expect("a few pieces");
        // Pieces of pieces: what is offered already is not taken away.
        let offer = team.offer.load(Acquire);
        assert!(offer & MOST == 0 && unsafe { (*team.work.get()).is_none() }, "one work at a time");
        // SAFETY: nobody else reads or writes it while no piece is left, and none is taken. The reference is used no longer than
        // until this function has seen every piece done, whatever panics.
        unsafe {
            let work = std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work);
            *team.work.get() = Some(work);
        }
        team.done.store(0, Relaxed);
        team.offer.store(((offer >> PIECES) + 1) << PIECES | pieces, Release);
        while team.piece() || team.offer.load(Relaxed) & MOST > 0 {}
        let mut looks = 0;
        while team.done.load(Acquire) < many {
            looks = wait(looks);
        }
        // SAFETY: as above, every piece is done.
        unsafe { *team.work.get() = None };
        let panic = team.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    /// Leads `work` with so many helpers.
    fn team<R>(helpers: usize, work: impl FnOnce(&Leader<'_>) -> R) -> R {
        let team = Team::default();
        assert_eq!((team.missing(helpers), team.missing(helpers)), (helpers, 0));
        let begun = Barrier::new(helpers + 1);
        let result = thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| {
                    begun.wait();
                    team.help();
                });
            }
            team.lead(|leader| {
                begun.wait();
                work(leader)
            })
        });
        assert_eq!(team.missing(1), 1, "all have gone");
        result
    }

    #[test]
    fn every_piece_is_done_once_and_in_its_place() {
        for helpers in [0, 1, 3] {
            team(helpers, |leader| {
                for round in 0..2000 {
                    let mut numbers = vec![0usize; round % 7];
                    let pieces = numbers.iter_mut().enumerate().collect();
                    let twice = leader.map(pieces, |(i, number): (usize, &mut usize)| {
                        *number += i + round;
                        2 * *number
                    });
                    for (i, number) in numbers.into_iter().enumerate() {
                        assert_eq!((number, twice[i]), (i + round, 2 * (i + round)));
                    }
                }
            });
        }
    }

    #[test]
    fn a_panic_comes_back_when_all_pieces_are_done() {
        let done = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            team(2, |leader| {
                leader.map((0..8).collect(), |i| {
                    assert!(i != 3, "three");
                    done.fetch_add(1, Relaxed);
                })
            })
        }));
        assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"three"));
        assert_eq!(done.into_inner(), 7);
    }

    #[test]
    #[should_panic(expected = "one work at a time")]
    fn work_within_work_is_refused() {
        let team = Team::default();
        team.lead(|leader| {
            let again = Shared(leader);
            leader.map(vec![()], |()| again.map());
        });

        struct Shared<'a>(&'a Leader<'a>);
        // SAFETY: there are no helpers in this test.
        unsafe impl Sync for Shared<'_> {}
        impl Shared<'_> {
            fn map(&self) {
                self.0.map(vec![()], |()| ());
            }
        }
    }
}
