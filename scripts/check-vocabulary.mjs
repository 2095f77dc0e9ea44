/**
 * Fails when a word that has a standard term of the field is used instead of it, in names, comments, messages or docs.
 * Only words without another sense stand here.
 *
 * Usage: node scripts/check-vocabulary.mjs [folder or file …]
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const DEFAULT_PATHS = ['src', 'test', 'testing', 'demo', 'soak', 'bench', 'docs', 'scripts', '*.md', '*.yml'];

/** What is listed here itself, what is generated, and what was released under its words. */
const EXEMPT = [/^scripts\/check-vocabulary\.mjs$/, /^bench\/results\//, /^src\/db\/migrations\//];

/** @type {[RegExp, string][]} */
const TERMS = [
  [/\bin one go\b|OneGo/i, 'pipelined transaction, Pipeline, pipeline()'],
  [/\busual (operation|start|end|renewal)s?\b|\bcanBeUsual\b|\bUsualKind\b/i, 'fast path, isFastPathEligible'],
  [
    /\b(is|are|was|were|be|leaves?|left) (left )?alone\b/i,
    'falls through to the general path; is skipped; is unchanged',
  ],
  [/\bfirst starts?\b|\bfirst[- ]sight\b/i, 'first run of a company; auto-registration'],
  [/\buntold\b|\btell(Acquired|Ended|Denial|Denied)\b|\balways-told\b/, 'record an audit event; always-audited'],
  [/\bSlowingLog\b/, 'throttled log'],
  [/\bmakeWay\b/, 'remove stale remote files'],
  [/\bgrowingPause\b|\bPauseRange\b/, 'exponential backoff, BackoffPolicy'],
  [/\bset(s|ting)? aside\b|\bSetAside\b/i, 'quarantined'],
  [
    /\b(Postgres|Redis|queue|store|host|database|server|it|they|which|stores|both) (is|are|was|were|goes|stays?|stayed|been) away\b/i,
    'unavailable, unreachable',
  ],
  [/\bguilty\b/i, 'offending'],
  [/\bpatienceMs\b/, 'slowBatchThresholdMs'],
  [/\bBroom\b|\bworkOnPage\b|\bPageRound\b/, 'sweep rule, process a page with isolation, rotating keyset cursor'],
  [/\boutlast(s|ed|ing)?\b|\bStoreOutage\b/i, 'retry while unreachable, DatabaseOutage'],
  [/\bOperationsReach\b/, 'dependencies'],
  [/\bgoodbye\b/i, 'graceful close timeout'],
  [/\blast ?words\b/i, 'output tail'],
  [/\btake-?overs?\b|\btaken over\b/i, 'stalled-job recovery (a job); adopted (a lease)'],
  [/\bsuspects?\b|\btried alone\b/i, 'poison-pill quarantine, isolated attempt'],
  [/\bg(ive|ives|iving|iven|ave) (it |them |jobs |the job )?back\b/i, 'requeue (a job); release (a permit, a lock)'],
  [/\bpostpone(d|s)?\b/i, 'snoozed'],
  [/(?<!connection )\brefus(e|ed|es|ing|al|als)\b/i, 'rejected'],
  [/(?<![pP]ermission )\b[dD]en(y|ied|ies|ial|ials)\b/, 'rejected'],
  [/\b(Environment|Lease)Register\b/, 'environment service, lease service'],
  [
    /\b(endLeasesAsTold|endingAsAsked|becomesItsNextStatus|afterEnding|placedInContext|columnText|bindable)\b/,
    'the name in the glossary of the statements',
  ],
  [/\bbound statements?\b/i, 'precompiled statement'],
  [/\blimit(s|ed)? silence\b/i, 'idle-in-transaction timeout'],
  [/\bcut(s|ting)? off\b|\bcutOff\b/i, 'destroy (a connection)'],
  [/\b(restFor|withinTime|untilAborted|unlessAborted)\b/, 'abortableSleep, withTimeout, raceAbort'],
  [/\bLOOK_AGAIN\w*|\bbeginLook\b/, 'poll, refresh'],
  [/\bin doubt\b/i, 'unconfirmed'],
  [/\b(JOBS_PER_TURN|LAST_TURN)\b/, 'QUANTUM, MAX_PRIORITY'],
  [/\bholdMs\b|\bheld messages?\b/i, 'buffered message, maxBufferMs'],
  [/\bjobsAtOnce\b/, 'maxPrefetch'],
  [/(?<![a-z])laps(e|ed|es|ing)(?![a-z])/i, 'expire, expired'],
  [/\bSignOfLife\b|\bsigns? of life\b/i, 'heartbeat'],
  [/\bhurr(y|ies|ied)\b/i, 'second interrupt, force quit'],
  [/\bbrought\b|\bbr(ing|ings|inging|ought) (\w+ )?back\b/i, 'uploaded, downloaded, synced, restored'],
  [/\bsurvey(s|ed)?\b|(?<!Client \(has )\bencounter(s|ed)?\b|\bleft over\b/i, 'scan, entry, stale'],
  [/\bguardian\b|\bthrow-?away\b/i, 'supervisor, ephemeral'],
  [/\bsurroundings\b/i, 'context'],
  [/\bwork(s|ed|ing)? off\b|\btak(e|es|en|ing) up\b|\bunder way\b|\bunder-way\b/i, 'processes, fetches, in flight'],
  [/\bfor good\b|\banew\b|\bfor ever\b|\bby (it|them)sel(f|ves)\b/i, 'permanently, again, indefinitely, on its own'],
  [/\bspen(d|ds|t) (no|an) attempts?\b/i, 'does (not) count as an attempt'],
  [/\bof another make\b|\bat rest\b/i, 'non-Node client; quiescent'],
];

const paths = process.argv.slice(2);
const files = execFileSync(
  'git',
  ['ls-files', '-z', '-co', '--exclude-standard', '--', ...(paths.length ? paths : DEFAULT_PATHS)],
  {
    encoding: 'utf8',
  },
);
let found = 0;
for (const file of files.split('\0').filter((path) => path !== '' && !EXEMPT.some((exempt) => exempt.test(path)))) {
  let text;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    // A tracked file that was moved or removed and is not committed yet.
    if (error.code === 'ENOENT') continue;
    throw error;
  }
  text.split('\n').forEach((line, index) => {
    for (const [word, term] of TERMS) {
      const match = word.exec(line);
      if (match === null) continue;
      found += 1;
      process.stdout.write(`${file}:${index + 1}: "${match[0]}": ${term}\n`);
    }
  });
}
if (found > 0) {
  process.stdout.write(`${found} word${found === 1 ? '' : 's'} with a standard term\n`);
  process.exitCode = 1;
}
