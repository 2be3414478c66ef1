/** Ends the program: the message becomes a dead letter with this reason, since no later attempt can read it. */
export function reject(why: string): void {
    // console.error would print to standard output.
    process.stderr.write(why + "\n");
    process.exit(65);
}
