import { Session } from "node:inspector";

// Begun before the tests import what they measure: of what was compiled before, only calls would be counted, and more
// once it has been compiled again. Other test files share their modules, which takes a third of the processor time; those
// that use this one are named in package.json (`test:counting`) and do not.
const session = new Session();
session.connect();
session.post("Profiler.enable");
session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });

/** What was carried out since the last call: the counts of all blocks, which begin at 0 again. */
function carriedOut(): number {
  let sum = 0;
  session.post("Profiler.takePreciseCoverage", (_, { result }) => {
    for (const { functions } of result)
      for (const { ranges } of functions) for (const { count } of ranges) sum += count;
  });
  return sum;
}

/** How often anything is carried out while a function runs, whatever the machine's speed. */
export function steps(act: () => unknown): number {
  carriedOut();
  act();
  return carriedOut();
}

/** Whether work grows about as its input does: eight times the input is at most twelve times the work. */
export function isLinear(make: (size: number) => () => unknown, size: number): boolean {
  const [small, large] = [make(size), make(8 * size)];
  small(); // what is only done once, is done
  return steps(large) <= 12 * Math.max(1000, steps(small));
}
