import { afterEach } from 'vitest';

type Step = () => unknown;

/**
 * Steps that are done after each test, the last one first, whether the test passed or not. A step
 * that fails does not keep the others from being done.
 */
export function cleanupAfterEach(): (step: Step) => void {
  const steps: Step[] = [];
  afterEach(async () => {
    const failures: unknown[] = [];
    for (const step of steps.splice(0).reverse()) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'cleaning up failed');
  });
  return (step) => {
    steps.push(step);
  };
}
