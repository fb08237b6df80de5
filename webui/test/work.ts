import { Session } from "node:inspector";

/** How often anything is carried out while a function runs: the counts of all its blocks, whatever the machine's speed. */
export function steps(act: () => unknown): number {
  const session = new Session();
  session.connect();
  session.post("Profiler.enable");
  session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  act();
  let sum = 0;
  session.post("Profiler.takePreciseCoverage", (_, { result }) => {
    for (const { functions } of result)
      for (const { ranges } of functions) for (const { count } of ranges) sum += count;
  });
  session.post("Profiler.stopPreciseCoverage");
  session.disconnect();
  return sum;
}

/** Whether work grows about as its input does: eight times the input is at most twelve times the work. */
export function isLinear(make: (size: number) => () => unknown, size: number): boolean {
  const [small, large] = [make(size), make(8 * size)];
  small(); // what is only done once, is done
  return steps(large) <= 12 * Math.max(1000, steps(small));
}
