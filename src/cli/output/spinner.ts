import ora from "ora";

/** What a long command says while it works. Always on stderr: stdout belongs to the command's value. */
export interface Progress {
  start(text: string): void;
  /** Replaces the text of the running line; nothing where lines cannot be replaced. */
  update(text: string): void;
  /** Ends the running line with a tick. */
  succeed(text: string): void;
  /** Ends the running line with a cross. */
  fail(): void;
  /** A line that stays. */
  note(text: string): void;
}

export interface ProgressOptions {
  quiet: boolean;
  color: boolean;
  /** A terminal that is no continuous-integration log. */
  interactive: boolean;
}

export function createProgress(options: ProgressOptions, stream: NodeJS.WriteStream = process.stderr): Progress {
  if (options.quiet) return { start: nothing, update: nothing, succeed: nothing, fail: nothing, note: nothing };
  // In a terminal that says it has no columns, a spinner would wrap its line without end.
  return options.interactive && stream.columns > 0 ? createSpinner(options, stream) : createPlainLines(stream);
}

function createSpinner({ color }: ProgressOptions, stream: NodeJS.WriteStream): Progress {
  // Raw mode would swallow Ctrl-C, so stdin stays with the terminal.
  const spinner = ora({ stream, discardStdin: false, ...(color ? {} : { color: false as const }) });
  return {
    start: (text) => void spinner.start(text),
    update: (text) => void (spinner.text = text),
    succeed: (text) => void spinner.succeed(text),
    fail: () => void (spinner.isSpinning && spinner.fail()),
    note(text) {
      if (spinner.isSpinning) spinner.clear();
      stream.write(`${text}\n`);
    },
  };
}

function createPlainLines(stream: NodeJS.WriteStream): Progress {
  const write = (text: string) => void stream.write(`${text}\n`);
  return { start: write, update: nothing, succeed: write, fail: nothing, note: write };
}

function nothing(): void {}
