export namespace log {
    let trace: (text: string) => void;
    let debug: (text: string) => void;
    let info: (text: string) => void;
    let warn: (text: string) => void;
    let error: (text: string) => void;
    let critical: (text: string) => void;
}
export type Level = "trace" | "debug" | "info" | "warn" | "error" | "critical";
