/*
 * The protocol of src/engine/thread_pool.cpp as a model that Spin explores in every interleaving. ThreadSanitizer sees
 * the memory orders of the interleavings that happen to occur; this sees all of them, under sequential consistency.
 *
 * A caller runs JOBS jobs of CHUNKS chunks and stops the workers. Claims:
 *   every chunk runs exactly once;
 *   no worker reads a job that is being changed or is over (the "job" of the code lies on the caller's stack);
 *   nobody wakes another for a job that is over;
 *   nobody waits for ever (Spin reports invalid end states), however late a worker comes or if it never begins.
 *
 * Names are those of the code. One atomic step here is one atomic operation there, but for loads that only spare an
 * exchange. BREAK=1..8 removes what the protocol rests on, one thing each; every one of them must be found. See run.sh.
 */
#ifndef BREAK
#define BREAK 0
#endif
#define WORKERS 2
#define JOBS 2
#define CHUNKS 3
#define REGIONS 3 /* min(chunks, participants) */
#define WAKES_EACH 1 /* 2 in the code; with one, two workers are enough for one to wake the other */

bool open;        /* bit 0 of gate_ */
byte inside;      /* the rest of gate_ */
byte ticket;      /* ticket_ */
bool stop;        /* stop_ */
bool asleep[WORKERS];    /* of each worker */
bool in_kernel[WORKERS]; /* in sleep_while() */
byte wake_next;
byte wake_end;
byte next[REGIONS];
byte ran[CHUNKS];
bool changing;    /* the caller writes the job */
bool alive;       /* the job exists */
byte exited;

inline new_ticket() {
#if BREAK != 5
    ticket++
#else
    skip
#endif
}

inline wake(w) {
#if BREAK != 7
    atomic { some = asleep[w]; asleep[w] = false }
#else
    some = asleep[w] /* notifies without changing the word */
#endif
    if
    :: some -> in_kernel[w] = false /* notify_one */
    :: else
    fi
}

inline wake_some() {
    assert(alive && !changing);
    end = wake_end;
    woken = 0;
    do
    :: woken == WAKES_EACH || wake_next >= end -> break
    :: else ->
       atomic { w = wake_next; wake_next++ };
       if
       :: w >= end -> break
       :: else
       fi;
       wake(w);
       woken = woken + some;
       assert(alive && !changing)
    od;
    atomic { w = 0; end = 0; woken = 0; some = false }
}

inline participate(me) {
    k = 0;
    do
    :: k < REGIONS ->
        region = (me + k) % REGIONS;
        do
        :: assert(alive && !changing);
           if
           :: next[region] >= region + 1 -> break
           :: else
           fi;
#if BREAK == 1
           chunk = next[region]; /* not one atomic increment */
           next[region] = chunk + 1;
#else
           atomic { chunk = next[region]; next[region] = chunk + 1 };
#endif
           if
           :: chunk >= region + 1 -> break
           :: else -> ran[chunk]++; assert(ran[chunk] == 1); assert(alive && !changing)
           fi
        od;
        k++
    :: else -> break
    od;
    atomic { k = 0; region = 0; chunk = 0 } /* dead values would only multiply the states */
}

proctype Worker(byte me) {
    byte seen = 0;
    byte k, region, chunk, w, end, woken;
    bool was_open, some;
    if
    :: true -> goto missing /* a worker that never gets a CPU */
    :: true
    fi;
    do
    :: if /* await_ticket: it may find the new ticket by itself, or sleep until woken */
       :: ticket != seen
       :: true ->
          do
#if BREAK != 6
          :: asleep[me - 1] = true;
             if
             :: ticket != seen -> asleep[me - 1] = false; break
             :: else
             fi;
#else
          :: if
             :: ticket != seen -> break
             :: else
             fi;
             asleep[me - 1] = true; /* looks before it reports itself */
#endif
             do /* A futex wait compares and sleeps in one step, and again until the value is another. */
             :: atomic { asleep[me - 1] -> in_kernel[me - 1] = true };
                !in_kernel[me - 1]
             :: !asleep[me - 1] -> break
             od
          od
       fi;
       seen = ticket;
       if
       :: stop -> break
       :: else
       fi;
#if BREAK == 2
       was_open = open; /* looks before it enters */
       inside++;
#else
       atomic { was_open = open; inside++ };
#endif
       if
       :: was_open ->
#if BREAK != 8
          wake_some();
#endif
          participate(me)
       :: else
       fi;
#if BREAK == 8
       inside--;
       if
       :: was_open -> wake_some() /* wakes others when it has left */
       :: else
       fi;
       was_open = false
#else
       atomic { inside--; was_open = false }
#endif
    od;
missing:
    exited++
}

proctype Caller() {
    byte job, k, region, chunk, c, w, end, woken;
    bool some;
    for (job : 1 .. JOBS) {
        changing = true;
        alive = true;
        d_step {
            for (c : 0 .. REGIONS - 1) { next[c] = c }
            for (c : 0 .. CHUNKS - 1) { ran[c] = 0 }
            c = 0;
            wake_next = 0;
            wake_end = 0
        }
        changing = false;
        open = true;
        new_ticket();
        if /* as far as the owners go that are worth it */
        :: wake_end = WORKERS
        :: wake_end = 1
        :: true
        fi;
        wake_some();
        participate(0);
#if BREAK != 3
        open = false;
#endif
#if BREAK != 4
        inside == 0; /* waits for chunks in progress */
#endif
        d_step {
            for (c : 0 .. CHUNKS - 1) { assert(ran[c] == 1) }
            c = 0
        }
        alive = false
    }
    stop = true;
    new_ticket();
    for (w : 0 .. WORKERS - 1) { wake(w) }
    exited == WORKERS
}

init {
    byte w;
    atomic {
        for (w : 1 .. WORKERS) { run Worker(w) }
        run Caller()
    }
}
