import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';

/** Reporter for vitest: writes how many tests passed, failed and were skipped as JSON to a file. */
export default class CountReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const counts = { passed: 0, failed: 0, skipped: 0, notes: [] };
    for (const module of modules) {
      let failedHere = 0;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') counts.passed += 1;
        else if (state === 'failed') failedHere += 1;
        else counts.skipped += 1;
      }
      // A file that could not be loaded, or whose set-up failed, is one failed test.
      if (failedHere === 0 && !module.ok()) {
        failedHere = 1;
        counts.notes.push(`failed as a whole: ${relative(process.cwd(), module.moduleId)}`);
      }
      counts.failed += failedHere;
    }
    if (unhandledErrors.length > 0) {
      counts.failed += unhandledErrors.length;
      counts.notes.push(`errors outside of any test: ${unhandledErrors.length}`);
    }
    writeFileSync(process.env.TRANSFER_ENGINE_TEST_COUNTS, JSON.stringify(counts));
  }
}
