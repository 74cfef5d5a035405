//! One run of the model: who lives, what goes wrong when, and in which order everybody moves.
//!
//! Everything follows from the seed. Time passes in ticks; a worker that is neither stopped nor cut off
//! does its duties in every tick, and anything may happen between two ticks.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use super::broker::{Broker, Kind, Message, VISIBILITY, WorkerId};
use super::member::{Member, Program, State};
use super::promises::{Broken, Ended};
use super::python::Python;
use super::wire::{Link, RECONNECT_MAX, Wire};
use super::worker::{Life, Worker};
use super::wrong::Wrong;

/// How many random steps things go wrong.
const ROUGH_STEPS: u32 = 700;

/// A calamity comes in so many of these opportunities as the [`Weather`] says.
const CALAMITIES: u32 = 10;

/// How many ticks it then takes until all is settled: the deaths of the poison, one after the other.
const CALM_TICKS: u64 = 30 * VISIBILITY;

/// How often each calamity comes in this run. Where all are equally frequent, each hides the others.
#[derive(Clone, Copy, Debug)]
struct Weather {
    kills: u32,
    pauses: u32,
    outages: u32,
}

impl Weather {
    fn new(rng: &mut SmallRng) -> Self {
        let mut often = || [0, 1, 2, 5][rng.random_range(0..4)];
        Self {
            kills: often(),
            pauses: often(),
            outages: often(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) members: Vec<Member>,
    pub(crate) now: u64,
    /// By envelope.
    pub(crate) ended: BTreeMap<u32, Ended>,
    outage_until: Option<u64>,
    next_worker: WorkerId,
    next_task: u32,
    is_rough: bool,
    weather: Weather,
    pub(crate) wrong: Option<Wrong>,
    rng: SmallRng,
    trace: Option<Vec<String>>,
}

/// Runs one seed; a broken promise comes with all that happened, if it was asked for.
pub(crate) fn run(
    seed: u64,
    wrong: Option<Wrong>,
    is_traced: bool,
) -> Result<(), (Broken, Vec<String>)> {
    let mut world = World::new(seed, wrong, is_traced);
    let result = world.live();
    result.map_err(|broken| (broken, world.trace.unwrap_or_default()))
}

impl World {
    fn new(seed: u64, wrong: Option<Wrong>, is_traced: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut world = Self {
            broker: Broker::default(),
            members: Vec::new(),
            now: 0,
            ended: BTreeMap::new(),
            outage_until: None,
            next_worker: 1,
            next_task: 1,
            is_rough: true,
            wrong,
            weather: Weather::new(&mut rng),
            rng,
            trace: is_traced.then(Vec::new),
        };
        world.start_ours();
        world.start_ours();
        let python = Python::new(world.fresh_id());
        world.members.push(Member::new(Program::Python(python)));
        world
    }

    fn live(&mut self) -> Result<(), Broken> {
        for _ in 0..ROUGH_STEPS {
            self.step();
            self.judge()?;
        }
        self.calm();
        for _ in 0..CALM_TICKS {
            self.tick();
            self.judge()?;
            for who in 0..self.members.len() {
                if self.members[who].state == State::Running {
                    self.act(who);
                    self.judge()?;
                }
            }
            if self.broker.queue.is_empty() && self.broker.unacked.is_empty() {
                break;
            }
        }
        self.judge_the_end()
    }

    /// Anything that may happen next.
    fn step(&mut self) {
        let weather = self.weather;
        match self.rng.random_range(0..1_000) {
            0..20 if self.next_task < 12 => self.produce(),
            20..40 if self.rng.random_ratio(weather.kills, CALAMITIES) => self.kill(),
            40..60 if self.rng.random_ratio(weather.pauses, CALAMITIES) => self.pause(),
            60..80 if self.rng.random_ratio(weather.outages, CALAMITIES) => self.begin_outage(),
            80..84 => self.jump_a_clock(),
            84..250 => self.tick(),
            _ => {
                let running = |member: &&Member| member.state == State::Running;
                let who = (0..self.members.len()).filter(|who| running(&&self.members[*who]));
                if let Some(who) = who.choose(&mut self.rng) {
                    self.act(who);
                }
            }
        }
    }

    /// From here on nothing goes wrong; Python's worker is stopped, because poison would end it for ever.
    fn calm(&mut self) {
        self.note(|| "calm".to_owned());
        self.is_rough = false;
        self.outage_until = None;
        for member in &mut self.members {
            match (&member.program, member.state) {
                (Program::Python(_), _) => member.state = State::Dead { replaced: None },
                (_, State::Paused { .. }) => member.state = State::Paused { until: self.now },
                _ => {}
            }
        }
    }

    fn tick(&mut self) {
        self.now += 1;
        if self.outage_until.is_some_and(|until| until <= self.now) {
            self.note(|| "the broker is back".to_owned());
            self.outage_until = None;
        }
        for who in 0..self.members.len() {
            self.pass_time(who);
        }
    }

    /// What the tick means for one process.
    fn pass_time(&mut self, who: usize) {
        let is_outage = self.outage_until.is_some();
        let member = &mut self.members[who];
        match member.state {
            State::Dead { replaced } => {
                if replaced.is_some_and(|at| at <= self.now) {
                    member.state = State::Dead { replaced: None };
                    self.replace(who);
                }
                return;
            }
            State::Paused { until } => {
                if until <= self.now {
                    // Its threads wake in any order: it may go on with a task before it says that it lives.
                    member.state = State::Running;
                }
                member.away_ticks += 1;
                return;
            }
            State::Running => {}
        }
        match member.link {
            Link::Broken { .. } if is_outage => {}
            Link::Broken { wait: 0 } => member.link = Link::Fresh,
            Link::Broken { wait } => member.link = Link::Broken { wait: wait - 1 },
            Link::Up | Link::Fresh => {}
        }
        let now = self.now;
        let (mut wire, program) = self.wire(who);
        let has_renewed = match program {
            Program::Ours(worker) => {
                worker.duties(&mut wire);
                worker.has_renewed(now)
            }
            Program::Python(_) => {
                wire.reconnected();
                false
            }
        };
        let member = &mut self.members[who];
        if has_renewed {
            member.away_ticks = 0;
            member.outage_ticks = 0;
        } else if is_outage {
            member.outage_ticks += 1;
        } else if member.link != Link::Up {
            member.away_ticks += 1;
        }
    }

    /// Another takes the place of one that has ended.
    fn replace(&mut self, who: usize) {
        match self.members[who].program {
            Program::Ours(_) => self.start_ours(),
            Program::Python(_) => {
                let python = Python::new(self.fresh_id());
                self.members.push(Member::new(Program::Python(python)));
            }
        }
    }

    /// One step of one process.
    fn act(&mut self, who: usize) {
        if self.members[who].state != State::Running {
            return;
        }
        let (mut wire, program) = self.wire(who);
        let life = match program {
            Program::Ours(worker) => worker.step(&mut wire),
            Program::Python(python) => python.step(&mut wire),
        };
        if life == Life::Ends {
            self.end(who, "poison");
        }
    }

    fn wire(&mut self, who: usize) -> (Wire<'_>, &mut Program) {
        let member = &mut self.members[who];
        let wire = Wire {
            broker: &mut self.broker,
            rng: &mut self.rng,
            link: &mut member.link,
            trace: &mut self.trace,
            now: self.now,
            wrong: self.wrong,
            is_rough: self.is_rough,
        };
        (wire, &mut member.program)
    }

    fn produce(&mut self) {
        let id = self.next_task;
        self.next_task += 1;
        let kind = match self.rng.random_range(0..10) {
            0 => Kind::Bad,
            1 => Kind::Poison,
            2..=5 => Kind::Good { is_followed: true },
            _ => Kind::Good { is_followed: false },
        };
        let message = Message {
            envelope: 0,
            id,
            follows: None,
            delivery_tag: self.rng.random_range(0..4),
            kind,
            acks_late: kind != (Kind::Good { is_followed: false }) || self.rng.random(),
        };
        self.note(|| format!("sent: {message:?}"));
        self.broker.publish(message);
    }

    fn kill(&mut self) {
        let who = self.rng.random_range(0..self.members.len());
        if !self.members[who].is_dead() {
            self.end(who, "kill -9");
        }
    }

    fn end(&mut self, who: usize, why: &str) {
        let id = self.members[who].id();
        self.note(|| format!("worker {id} ends: {why}"));
        let replaced = Some(self.now + self.rng.random_range(0..20));
        self.members[who].state = State::Dead { replaced };
    }

    fn pause(&mut self) {
        let who = self.rng.random_range(0..self.members.len());
        if self.members[who].state == State::Running {
            let until = self.now + self.rng.random_range(1..2 * VISIBILITY);
            let id = self.members[who].id();
            self.note(|| format!("worker {id} is stopped until {until}"));
            self.members[who].state = State::Paused { until };
        }
    }

    /// The broker is away for everybody: every connection breaks.
    fn begin_outage(&mut self) {
        let until = self.now + self.rng.random_range(1..2 * VISIBILITY);
        self.note(|| format!("the broker is away until {until}"));
        self.outage_until = Some(until);
        for member in &mut self.members {
            let wait = self.rng.random_range(0..=RECONNECT_MAX);
            member.link = Link::Broken { wait };
        }
    }

    fn jump_a_clock(&mut self) {
        let who = self.rng.random_range(0..self.members.len());
        let offset = self.rng.random_range(-100..100);
        if let Program::Ours(worker) = &mut self.members[who].program {
            worker.wall_offset = offset;
        }
    }

    fn start_ours(&mut self) {
        let id = self.fresh_id();
        self.note(|| format!("worker {id} starts"));
        self.members
            .push(Member::new(Program::Ours(Worker::new(id))));
    }

    fn fresh_id(&mut self) -> WorkerId {
        self.next_worker += 1;
        self.next_worker
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>4}: {}", self.now, line()));
        }
    }
}
