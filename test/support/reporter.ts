import type { Reporter, SerializedError, TestCase, TestModule, TestSuite, Vitest } from 'vitest/node';
import type { TestStores } from './stores.ts';

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/** Ends a run with the stores that were used, what was not run and why, and one line of totals. */
export default class LessorReporter implements Reporter {
  #vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.#vitest = vitest;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const tally = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    const notRun = new Map<string, number>();
    for (const module of modules) this.#count(module, tally, notRun);
    const lines = ['', 'Stores', ...this.#describeStores(), ...describeNotRun(notRun), '', closingLine(tally)];
    this.#vitest?.logger.log(lines.join('\n'));
  }

  #count(module: TestModule, tally: Tally, notRun: Map<string, number>): void {
    // A file or suite whose hooks or loading failed counts as one more failure, as it fails the run.
    const broken = [module, ...module.children.allSuites()].filter((suite) => suite.errors().length > 0);
    tally.failed += broken.length;
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      if (state === 'passed' || state === 'failed') {
        tally[state] += 1;
        continue;
      }
      tally.skipped += 1;
      const reason = this.#reasonOfSkipping(test);
      notRun.set(reason, (notRun.get(reason) ?? 0) + 1);
    }
  }

  #reasonOfSkipping(test: TestCase): string {
    if (this.#vitest?.config.testNamePattern !== undefined) return 'what the name filter leaves out';
    const result = test.result();
    const file = test.module.relativeModuleId;
    if (result.state === 'pending') return `${file}: interrupted`;
    if (result.state === 'skipped' && result.note !== undefined) return `${file}: ${test.fullName} (${result.note})`;
    if (test.options.mode === 'run') return `${file}: a hook before the tests failed`;
    return `${file}: ${(outermostSkipped(test) ?? test).fullName}`;
  }

  #describeStores(): string[] {
    const stores: TestStores | undefined = this.#vitest?.getRootProject().getProvidedContext().stores;
    if (stores === undefined) return ['  none were found'];
    const redis = 'missing' in stores.redis ? `Redis: none. ${stores.redis.missing}` : stores.redis.origin;
    return [`  ${stores.postgres.origin}`, `  ${redis}`];
  }
}

function outermostSkipped(test: TestCase): TestSuite | undefined {
  let outermost: TestSuite | undefined;
  for (let parent = test.parent; parent.type === 'suite'; parent = parent.parent) {
    if (parent.options.mode === 'skip') outermost = parent;
  }
  return outermost;
}

function describeNotRun(notRun: ReadonlyMap<string, number>): string[] {
  if (notRun.size === 0) return ['Not run: nothing'];
  const lines = [...notRun].map(([reason, tests]) => `  ${reason}: ${tests} ${tests === 1 ? 'test' : 'tests'}`);
  return ['Not run', ...lines];
}

function closingLine({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
