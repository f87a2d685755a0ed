import { EngineError } from '../../packages/core/src/base/errors.ts';
import { CANCEL_MS, NOTIFY_MS, type Actor, type EngineWorld } from './engine-world.ts';
import type { Area } from './memory-oracle.ts';

/** Two publications, and their grace. */
const PUBLISH_MS = 2 * 900 + 20;
const WITHDRAW_MS = 3_000 + 1_000;

/** Something that happens to a world, or that somebody does to an engine. */
export async function disturb(sim: EngineWorld): Promise<void> {
  const { present, world } = sim;
  if (present.length < 2) return;
  const actor = sim.pick(present);
  const other = sim.pick(present.filter((each) => each !== actor));
  switch (sim.below(10)) {
    case 0:
      return kill(sim, actor);
    case 1:
    case 2:
      world.partition(actor.name, other.name);
      sim.plan(sim.below(sim.chance(0.3) ? 3_000 : 500), () => world.heal(actor.name, other.name));
      return;
    case 3:
      return world.reset(actor.name, other.name);
    case 4:
      world.slowDown(actor.name, 2 + sim.below(50));
      sim.plan(sim.below(500), () => {
        if (world.alive(actor.name)) world.slowDown(actor.name, 1);
      });
      return;
    case 5:
      world.store.setDown(true);
      sim.plan(sim.below(500), () => world.store.setDown(false));
      return;
    case 6:
      return unregister(sim, actor);
    case 7:
      return leave(sim, actor);
    case 8:
      return closeSegment(sim, actor);
    default:
      return refresh(sim, actor);
  }
}

/** Killed, and sometimes started again under the same name. */
function kill(sim: EngineWorld, actor: Actor): void {
  actor.dead = true;
  for (const area of actor.areas) {
    area.closed = true;
    area.gone = true;
  }
  sim.notified.take(actor);
  sim.world.kill(actor.name);
  if (sim.chance(0.7)) sim.plan(sim.below(200), () => sim.start(actor.name));
}

async function unregister(sim: EngineWorld, actor: Actor): Promise<void> {
  const open = actor.areas.filter(({ closed }) => !closed);
  if (open.length === 0) return;
  const area: Area = sim.pick(open);
  const busy = sim.pick(['refuse', 'wait', 'fence'] as const);
  const timeoutMs = sim.below(300);
  const boundMs = sim.nowMs + (busy === 'wait' ? timeoutMs : 0) + CANCEL_MS + PUBLISH_MS;
  area.closed = true;
  let failure: unknown;
  const call = area.region.unregister({ busy, timeoutMs });
  await sim.watch(actor, `unregister(${busy})`, boundMs, call).catch((error: unknown) => {
    failure = error;
  });
  if (actor.dead) return;
  if (failure !== undefined) {
    sim.checkError(failure, 'unregister()');
    const refused = failure instanceof EngineError && failure.code === 'ERR_TE_BATCH_BUSY';
    if (refused) area.closed = false;
    if (refused || actor.leaving) return;
  }
  // Also when the document could not be written: nobody has the memory any more.
  sim.memory.withdrawn(area);
  if (!actor.leaving && sim.chance(0.7)) await sim.offer(actor);
}

/** Drains, or not, and closes; everything that was open has ended then. */
async function leave(sim: EngineWorld, actor: Actor): Promise<void> {
  const { engine, name } = actor;
  actor.leaving = true;
  if (sim.chance(0.5)) {
    const deadlineMs = sim.below(300);
    const boundMs = sim.nowMs + deadlineMs + CANCEL_MS;
    // What runs at the deadline is canceled, also shortly before a deadline of its own.
    sim.extend(actor, boundMs + NOTIFY_MS);
    await sim.watch(actor, 'drain()', boundMs, engine.drain({ deadlineMs }));
    if (actor.dead) return;
    const { tasksActive } = engine.stats();
    sim.memory.check(tasksActive === 0, `${tasksActive} tasks are active after drain()`);
  }
  for (const area of actor.areas) area.closed = true;
  const boundMs = sim.nowMs + WITHDRAW_MS + CANCEL_MS;
  await sim.watch(actor, 'close()', boundMs, engine.close());
  if (actor.dead) return;
  for (const area of actor.areas) if (area.last === undefined) sim.memory.withdrawn(area);
  const { tasksActive, slicesInFlight } = engine.stats();
  sim.memory.check(
    tasksActive === 0 && slicesInFlight === 0,
    `${tasksActive} tasks and ${slicesInFlight} slices are there after close()`,
  );
  const timers = sim.world.timersOf(name);
  sim.memory.check(timers === 0, `${name} left ${timers} timers when it was closed`);
  sim.notified.take(actor);
  sim.world.closed(name);
  if (sim.chance(0.6)) sim.plan(sim.below(100), () => sim.start(name));
}

async function closeSegment(sim: EngineWorld, actor: Actor): Promise<void> {
  const [entry] = actor.segments;
  if (entry === undefined) return;
  const [name, segment] = entry;
  actor.segments.delete(name);
  await sim.watch(actor, 'segment.close()', sim.nowMs + CANCEL_MS, segment.close());
}

async function refresh(sim: EngineWorld, actor: Actor): Promise<void> {
  const segment = [...actor.segments.values()][0];
  if (segment === undefined) return;
  const boundMs = sim.nowMs + 300 + 10;
  const call = segment.refresh({ timeoutMs: 300 });
  await sim.watch(actor, 'refresh()', boundMs, call).catch((error: unknown) => {
    if (!actor.leaving) sim.checkError(error, 'refresh()');
  });
}
