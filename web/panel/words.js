/** What the panel calls things. */

export const STATUS = {
    running: "Training",
    finished: "Finished",
    stopped: "Stopped and kept",
    cancelled: "Cancelled",
    failed: "Ended by an error",
    interrupted: "ComfyUI ended meanwhile",
};

export function duration(exactly) {
    const seconds = Math.round(exactly);
    const minutes = Math.floor(seconds / 60);
    if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
    return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

export function pace(seconds) {
    return seconds < 1 ? `${(1 / seconds).toFixed(1)} steps/s` : `${seconds.toFixed(1)} s a step`;
}

export const after = (step) => (step ? `after ${step} step${step === 1 ? "" : "s"}` : "before training");

/** How far a training is, in a line. */
export function progress({ status, step, steps, seconds_per_step: seconds, seconds_left: left, refreshing }) {
    const parts = [
        `step ${step} of ${steps}`,
        seconds && pace(seconds),
        status === "running" && !refreshing && left != null && `${duration(left)} left`,
        status === "running" && refreshing && `refreshing targets: ${refreshing[0]} of ${refreshing[1]}`,
    ];
    return parts.filter(Boolean).join(" \u00b7 ");
}
