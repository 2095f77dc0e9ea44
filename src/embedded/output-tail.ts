import type { Readable } from 'node:stream';

const KEPT_CHARACTERS = 4_000;

/** The end of a program's output, quoted when it fails. */
export class OutputTail {
  #text = '';

  constructor(...streams: Readable[]) {
    for (const stream of streams) {
      stream.setEncoding('utf8').on('data', (chunk: string) => this.append(chunk));
    }
  }

  append(chunk: string): void {
    this.#text = (this.#text + chunk).slice(-KEPT_CHARACTERS);
  }

  includes(words: RegExp): boolean {
    return words.test(this.#text);
  }

  get text(): string {
    return this.#text.trim() || '(no output)';
  }
}
