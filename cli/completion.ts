import { defineCommand, noMoreWords } from "./command.ts";
import { commands } from "./commands.ts";
import { CommandError } from "./stage.ts";

interface Completed {
  name: string;
  summary: string;
  /** What may follow it: words, and options with their dashes. */
  words: readonly string[];
  options: readonly string[];
}

const shells = { bash, zsh, fish };

export const completionCommand = defineCommand({
  help: `axon completion SHELL: writes what makes a shell complete the commands of axon and their options.

  bash   eval "$(npx axon completion bash)"    in ~/.bashrc
  zsh    eval "$(npx axon completion zsh)"     in ~/.zshrc, after compinit
  fish   npx axon completion fish > ~/.config/fish/completions/axon.fish

It completes the command \`axon\`; an alias for \`npx axon\` is enough to have one.
`,
  words: Object.keys(shells),
  options: {},
  async run([shell, ...more]) {
    if (shell === undefined || !Object.hasOwn(shells, shell)) {
      throw new CommandError(`Use axon completion ${Object.keys(shells).join(" | ")}.`, {
        exitCode: 2,
      });
    }
    noMoreWords("completion", more);
    const all = await Promise.all(
      Object.entries(commands).map(async ([name, { summary, load }]): Promise<Completed> => {
        const { words = [], options } = await load();
        const long = [...Object.keys(options), "help"].map((option) => `--${option}`);
        return { name, summary, words, options: long };
      }),
    );
    process.stdout.write(shells[shell as keyof typeof shells](all));
    return 0;
  },
});

function bash(all: readonly Completed[]): string {
  const cases = all.map(
    ({ name, words, options }) => `    ${name}) words="${[...words, ...options].join(" ")}" ;;\n`,
  );
  return `_axon() {
  local words
  case "\${COMP_WORDS[1]}" in
${cases.join("")}    *) words="" ;;
  esac
  [ "$COMP_CWORD" -eq 1 ] && words="${all.map(({ name }) => name).join(" ")} --help"
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _axon axon
`;
}

/** Within single quotes of a shell. */
const quoted = (text: string): string => text.replaceAll("'", "'\\''");

function zsh(all: readonly Completed[]): string {
  const names = all.map(({ name, summary }) => `    '${name}:${quoted(summary)}'\n`);
  const cases = all.map(
    ({ name, words, options }) =>
      `    ${name}) compadd -- ${[...words, ...options].join(" ")} ;;\n`,
  );
  return `_axon() {
  local -a names
  names=(
${names.join("")}  )
  if (( CURRENT == 2 )); then
    _describe 'command' names
    return
  fi
  case "$words[2]" in
${cases.join("")}  esac
  _files
}
compdef _axon axon
`;
}

function fish(all: readonly Completed[]): string {
  const lines = all.flatMap(({ name, summary, words, options }) => [
    `complete -c axon -f -n __fish_use_subcommand -a ${name} -d '${quoted(summary)}'`,
    ...words.map((word) => `complete -c axon -n '__fish_seen_subcommand_from ${name}' -a ${word}`),
    ...options.map(
      (option) => `complete -c axon -n '__fish_seen_subcommand_from ${name}' -l ${option.slice(2)}`,
    ),
  ]);
  return `${lines.join("\n")}\n`;
}
