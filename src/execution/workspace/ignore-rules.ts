import ignore from 'ignore';
import type { Ignore } from 'ignore';

/** The rules of one .gitignore. */
interface Level {
  /** Its directory with a trailing slash; `''` for the workspace itself. */
  base: string;
  rules: Ignore;
}

/**
 * The rules that apply in a directory, as in git: the deepest .gitignore with a pattern for a path decides, and in it the
 * last such line. As git does, a caller asks only about paths whose directories are not ignored.
 */
export class IgnoreRules {
  static readonly none = new IgnoreRules([]);

  /** Outermost first. */
  readonly #levels: readonly Level[];

  private constructor(levels: readonly Level[]) {
    this.#levels = levels;
  }

  /** The rules in a subdirectory that is not ignored, with the text of its .gitignore. */
  within(directory: string, gitignore: string | undefined): IgnoreRules {
    const inherited = this.#levels.map((level) => withIncluded(level, directory));
    if (gitignore === undefined) {
      return inherited.every((level, index) => level === this.#levels[index]) ? this : new IgnoreRules(inherited);
    }
    const base = directory === '' ? '' : `${directory}/`;
    return new IgnoreRules([...inherited, { base, rules: ignore({ ignorecase: false }).add(gitignore) }]);
  }

  ignores(path: string, isDirectory: boolean): boolean {
    for (const { base, rules } of this.#levels.toReversed()) {
      const { ignored, unignored } = rules.test(relativePath(base, path, isDirectory));
      if (ignored) return true;
      if (unignored) return false;
    }
    return false;
  }
}

/**
 * The library ignores everything in an ignored directory. When a deeper .gitignore includes the directory again, the outer
 * rules still apply to its entries, so they get a pattern that includes the directory.
 */
function withIncluded(level: Level, directory: string): Level {
  if (directory === '' || !level.rules.test(relativePath(level.base, directory, true)).ignored) return level;
  const including = `!/${escaped(relativePath(level.base, directory, true))}`;
  return { base: level.base, rules: ignore({ ignorecase: false }).add(level.rules).add({ pattern: including }) };
}

/** A path relative to the directory of a .gitignore, with a trailing slash for a directory. */
function relativePath(base: string, path: string, isDirectory: boolean): string {
  return path.slice(base.length) + (isDirectory ? '/' : '');
}

/** A path as a pattern that matches nothing else. */
function escaped(path: string): string {
  return path.replaceAll(/[\\*?[\]!# ]/g, '\\$&');
}
