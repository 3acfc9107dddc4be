#include "scheduler.h"

#include "async_machine.h"
#include "order.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace simt {
namespace {

constexpr uint32_t MOST_SPINS = 1u << 22;

// xorshift64*, seeded through a mixing step so that neighbouring seeds differ.
class Random {
public:
    explicit Random(uint64_t seed) {
        state = seed + 0x9e3779b97f4a7c15u;
        state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
        state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
        state = (state ^ (state >> 31)) | 1;
    }

    // A number in 0..bound.
    uint32_t below(uint32_t bound) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        const uint64_t high = (state * 0x2545f4914f6cdd1du) >> 32;
        return uint32_t((high * bound) >> 32);
    }

private:
    uint64_t state;
};

// A list in memory that is there before fibers run: an allocation must not fail on one. Plain stores, since a container's
// calls would give every function here a frame for AddressSanitizer to poison, and that at each switch.
template <class T>
class List {
public:
    bool empty() const { return count == 0; }
    uint32_t size() const { return count; }
    T operator[](size_t index) const { return items[index]; }

    void clear() { count = 0; }
    void make_room(size_t length) {
        if (items.size() < length) items.resize(length);
    }
    void add(T item) { items[count++] = item; }

    // Removes one and puts the last in its place.
    void remove(size_t index) { items[index] = items[--count]; }

private:
    std::vector<T> items;
    uint32_t count = 0;
};

// One for each operating-system thread. The stacks stay reachable and are used again by the next launch.
struct Scheduler {
    Context context;              // where a launch was started
    Context *left = nullptr;      // the context of the last switch
    Random random{0};
    std::vector<std::unique_ptr<Block>> slots;
    List<Warp *> ready;           // warps with lanes that can run
    List<Thread *> late;          // late threads that can run
    Warp *recent = nullptr;       // the warp of the thread that ran last
    uint32_t stay_in_256 = 0;     // how often the next thread is of the same warp
    uint32_t late_in_65536 = 0;   // how many threads are late
    std::vector<uint32_t> waiting_blocks;  // in the order of their start, last first
    std::string *report = nullptr;
    bool failed = false;
    uint32_t spins = 0;  // since something else happened
    uint32_t started = 0;  // blocks
};

thread_local std::unique_ptr<Scheduler> owned;
// A pointer, since reaching an object that has a destructor costs a check each time.
thread_local Scheduler *scheduler = nullptr;

void switch_to(Context &from, Context &to, bool ends) {
    scheduler->left = &from;
    switch_context(from, to, ends);
}

// Goes back to where the launch was started.
void leave() {
    switch_to(current->fiber.context, scheduler->context, false);
}

}  // namespace

void make_ready(Thread &thread) {
    thread.state = State::ready;
    if (thread.is_late) {
        scheduler->late.add(&thread);
        return;
    }
    Warp &warp = *thread.warp;
    if (warp.ready == 0) scheduler->ready.add(&warp);
    warp.ready |= 1u << thread.lane;
}

uint32_t draw_below(uint32_t bound) {
    return scheduler->random.below(bound);
}

namespace {

Thread *take_late() {
    const uint32_t drawn = scheduler->random.below(scheduler->late.size());
    Thread *const thread = scheduler->late[drawn];
    scheduler->late.remove(drawn);
    return thread;
}

// A late thread now and then all the same: another one may wait for it in a loop.
bool is_turn_of_late() {
    if (scheduler->late.empty()) return false;
    return scheduler->ready.empty() || scheduler->random.below(1024) == 0;
}

// Lets copies land now and then, and whenever no thread can run.
void land_copies() {
    while (copies_in_flight > 0) {
        const bool must = scheduler->ready.empty() && scheduler->late.empty();
        if (!must && scheduler->random.below(8) != 0) return;
        land_copy();
    }
}

// Draws the thread that runs next; none if no thread can run.
Thread *next_thread() {
    land_copies();
    if (is_turn_of_late()) return take_late();
    if (scheduler->ready.empty()) return nullptr;

    Warp *warp = scheduler->recent;
    const bool stays = warp && warp->ready != 0 && scheduler->random.below(256) < scheduler->stay_in_256;
    if (!stays) warp = scheduler->ready[scheduler->random.below(scheduler->ready.size())];
    scheduler->recent = warp;
    const unsigned turn = scheduler->random.below(WARP_LANES);
    const uint32_t turned = warp->ready >> turn | warp->ready << (WARP_LANES - turn) % WARP_LANES;
    const unsigned lane = (unsigned(__builtin_ctz(turned)) + turn) % WARP_LANES;
    warp->ready &= ~(1u << lane);
    if (warp->ready == 0) {
        size_t place = 0;
        while (scheduler->ready[place] != warp) place++;
        scheduler->ready.remove(place);
    }
    return warp->threads + lane;
}

}  // namespace

namespace {

// Lets the next thread run; returns when the running one is drawn again.
void switch_to_next() {
    Thread *const self = current, *const next = next_thread();
    if (!next) return leave();
    if (next == self) return;
    current = next;
    switch_to(self->fiber.context, next->fiber.context, false);
}

}  // namespace

void give_way() {
    scheduler->spins = 0;
    switch_to_next();
}

namespace {

void release_barrier(Block &block) {
    block.at_barrier = 0;
    block.meetings++;
    for (unsigned linear = 0; linear < block.size; linear++)
        if (block.threads[linear].state == State::barrier) make_ready(block.threads[linear]);
}

void thread_main() {
    entered(*scheduler->left);
    launched->call(launched->values);
    Block &block = *current->block;
    current->state = State::done;
    current->warp->done |= 1u << current->lane;
    block.live--;
    if (block.live > 0 && block.at_barrier == block.live) release_barrier(block);
    // The end of a block is the scheduler's, which else would draw the same thread.
    Fiber &own = current->fiber;
    Thread *const next = block.live > 0 ? next_thread() : nullptr;
    own.has_ended = true;
    if (next) current = next;
    switch_to(own.context, next ? next->fiber.context : scheduler->context, true);
    abort();
}

Index3 index_in(uint64_t linear, Index3 extent) {
    return {unsigned(linear % extent.x), unsigned(linear / extent.x % extent.y),
            unsigned(linear / extent.x / extent.y)};
}

// Starts the next waiting block in `slot`.
void admit(Block &slot) {
    slot.index = index_in(scheduler->waiting_blocks.back(), launched->grid);
    scheduler->waiting_blocks.pop_back();
    slot.serial = ++scheduler->started;
    slot.meetings = 0;
    slot.regions.clear();
    slot.shared_used = 0;
    slot.at_barrier = 0;
    slot.live = slot.size;
    slot.copies = 0;
    for (GroupBarrier &group : slot.groups) group = {};
    for (unsigned &waiting : slot.in_products) waiting = 0;
    for (unsigned warp = 0; warp * WARP_LANES < slot.size; warp++)
        slot.warps[warp] = {slot.threads.data() + warp * WARP_LANES, 0, 0, 0, 0};
    for (unsigned linear = 0; linear < slot.size; linear++) {
        Thread &thread = slot.threads[linear];
        thread.block = &slot;
        thread.index = index_in(linear, launched->block);
        thread.lane = linear % WARP_LANES;
        thread.warp = &slot.warps[linear / WARP_LANES];
        thread.is_late = scheduler->late_in_65536 && scheduler->random.below(65536) < scheduler->late_in_65536;
        thread.synced = 0;
        thread.left = thread.left_at_sync = thread.released = 0;
        thread.products.clear();
        thread.products.reserve(PRODUCTS_IN_FLIGHT);
        thread.fiber.start(thread_main);
        make_ready(thread);
    }
}

// Draws the order of the blocks and makes room for those that are resident together.
void prepare(const Launch &launch) {
    const size_t blocks = size_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    const size_t threads = size_t(launch.block.x) * launch.block.y * launch.block.z;
    const Schedule &schedule = launch.schedule;
    const size_t resident = schedule.resident_blocks ? schedule.resident_blocks : std::max<size_t>(2, RESIDENT_THREADS / threads);

    scheduler->random = Random(schedule.seed);
    scheduler->failed = false;
    scheduler->spins = 0;
    scheduler->started = 0;
    forget_copies();
    forget_accesses();
    scheduler->ready.clear();
    scheduler->late.clear();
    scheduler->recent = nullptr;
    static const uint32_t STAY[] = {0, 128, 240, 255}, LATE[] = {0, 0, 256, 4096};
    scheduler->stay_in_256 = STAY[scheduler->random.below(4)];
    scheduler->late_in_65536 = LATE[scheduler->random.below(4)];
    scheduler->waiting_blocks.resize(blocks);
    for (size_t block = 0; block < blocks; block++) {
        const size_t other = scheduler->random.below(uint32_t(block + 1));
        scheduler->waiting_blocks[block] = scheduler->waiting_blocks[other];
        scheduler->waiting_blocks[other] = uint32_t(block);
    }
    const size_t slots = std::min(resident, blocks);
    while (scheduler->slots.size() < slots) {
        scheduler->slots.push_back(std::make_unique<Block>());
        scheduler->slots.back()->shared.reset(new char[SHARED_BYTES]);
        scheduler->slots.back()->regions.reserve(64);
    }
    scheduler->ready.make_room(slots * ((threads + WARP_LANES - 1) / WARP_LANES));
    scheduler->late.make_room(slots * threads);
    for (size_t slot = 0; slot < slots; slot++) {
        Block &block = *scheduler->slots[slot];
        if (block.threads.size() < threads) block.threads.resize(threads);
        block.size = unsigned(threads);
        admit(block);
    }
    accesses_left = schedule.access_interval ? 1 + scheduler->random.below(2 * schedule.access_interval) : 0;
}

// "file:line" of a site. No allocation: a fiber that fails never frees one.
struct Place {
    char text[96];

    explicit Place(Site site) {
        const char *slash = strrchr(site.file, '/');
        snprintf(text, sizeof text, "%s:%d", slash ? slash + 1 : site.file, site.line);
    }
};

// What the threads of a block that nothing can wake are waiting for.
std::string describe_deadlock(const Block &block) {
    constexpr size_t STATES = size_t(State::done) + 1;
    unsigned waiting[STATES] = {};
    Site sites[STATES] = {};
    for (unsigned linear = 0; linear < block.size; linear++) {
        const Thread &thread = block.threads[linear];
        waiting[size_t(thread.state)]++;
        sites[size_t(thread.state)] = thread.state == State::barrier ? block.barrier : thread.site;
    }
    std::string text = "deadlock: block (" + std::to_string(block.index.x) + ", " + std::to_string(block.index.y) +
                       ", " + std::to_string(block.index.z) + ")";
    static const char *const WHERE[STATES] = {"",
                                              "at barrier ",
                                              "in a collective at ",
                                              "for a phase at ",
                                              "at a barrier of some threads at ",
                                              "for products at ",
                                              ""};
    for (size_t state = size_t(State::barrier); state < size_t(State::done); state++) {
        if (waiting[state] == 0) continue;
        text += ": " + std::to_string(waiting[state]) + " threads wait " + WHERE[state] + Place(sites[state]).text;
    }
    return text;
}

void run_to_end() {
    size_t finished = 0, to_finish = scheduler->waiting_blocks.size();
    for (auto &slot : scheduler->slots) to_finish += slot->live > 0;
    while (Thread *next = next_thread()) {
        current = next;
        switch_to(scheduler->context, current->fiber.context, false);
        if (scheduler->failed) return;
        // The thread that came back is the last one that ran.
        Block &block = *current->block;
        if (block.live == 0) {
            if (block.copies > 0) {
                *scheduler->report = "a block ended while " + std::to_string(block.copies) + " copies were in flight";
                scheduler->failed = true;
                return;
            }
            finished++;
            if (!scheduler->waiting_blocks.empty()) admit(block);
        }
    }
    if (finished == to_finish) return;
    scheduler->failed = true;
    for (auto &slot : scheduler->slots) {
        if (slot->live == 0) continue;
        *scheduler->report = describe_deadlock(*slot);
        return;
    }
}

// Gives each lane its result and wakes it. Apart from its caller, whose frame stays small.
[[gnu::noinline]] void complete(Warp &warp, unsigned mask) {
    warp.waiting &= ~mask;
    warp.syncs++;
    uint64_t values[WARP_LANES];
    for (unsigned lane = 0; lane < WARP_LANES; lane++)
        if (mask >> lane & 1) values[lane] = warp.threads[lane].value;
    for (unsigned lane = 0; lane < WARP_LANES; lane++) {
        if (!(mask >> lane & 1)) continue;
        Thread &thread = warp.threads[lane];
        if (thread.collective == Collective::sync) {
            thread.synced = warp.syncs;
            thread.left_at_sync = thread.left;
        } else if (thread.collective == Collective::shuffle) {
            thread.value = values[thread.source];
        } else {
            uint64_t lanes = 0;
            for (unsigned other = 0; other < WARP_LANES; other++) {
                if (!(mask >> other & 1)) continue;
                const bool counts =
                    thread.collective == Collective::ballot ? values[other] != 0 : values[other] == values[lane];
                lanes |= uint64_t(counts) << other;
            }
            thread.value = lanes;
        }
        make_ready(thread);
    }
}

// Whether all lanes of the mask wait in the same collective.
bool is_complete(const Warp &warp, Collective collective, unsigned mask) {
    for (unsigned lane = 0; lane < WARP_LANES; lane++) {
        if (!(mask >> lane & 1)) continue;
        const Thread &thread = warp.threads[lane];
        if (thread.collective != collective || thread.mask != mask) return false;
    }
    return true;
}

// The lanes of a warp that its block has.
unsigned lanes_of(const Block &block, const Warp &warp) {
    const size_t threads = size_t(block.threads.data() + block.size - warp.threads);
    return threads >= WARP_LANES ? 0xffffffffu : (1u << threads) - 1;
}

bool same(const Site &left, const Site &right) {
    return left.line == right.line && (left.file == right.file || strcmp(left.file, right.file) == 0);
}

// Apart from their callers, whose frames stay small; the site is the running thread's.
[[noreturn, gnu::noinline]] void fail_divergent() {
    const Block &block = *current->block;
    fail("divergent barrier: %u threads wait at %s, another one arrived at %s", block.at_barrier,
         Place(block.barrier).text, Place(current->site).text);
}

[[noreturn, gnu::noinline]] void fail_livelock() {
    fail("livelock: a thread waits at %s for a value that nothing writes", Place(current->site).text);
}

// Memory of the running block for a declaration that has none, filled with poison.
[[gnu::noinline]] char *new_region(const void *declaration, const char *name, size_t bytes, size_t alignment) {
    Block &block = *current->block;
    const size_t offset = (block.shared_used + alignment - 1) / alignment * alignment;
    if (offset + bytes > SHARED_BYTES)
        fail("shared memory: %s would end at byte %zu of %zu", name, offset + bytes, SHARED_BYTES);
    block.shared_used = offset + bytes;
    block.regions.push_back({declaration, offset});
    char *const region = block.shared.get() + offset;
    const uint32_t poison = launched->schedule.poison;
    // Whole words by copies of a constant size, which are no calls.
    size_t byte = 0;
    for (; byte + sizeof poison <= bytes; byte += sizeof poison) memcpy(region + byte, &poison, sizeof poison);
    memcpy(region + byte, &poison, bytes - byte);
    return region;
}

}  // namespace

bool run(const Launch &launch, std::string &report) {
    if (!owned) owned = std::make_unique<Scheduler>();
    scheduler = owned.get();
    launched = &launch;
    scheduler->report = &report;
    // The threads of an earlier launch that failed are not resumed.
    for (auto &slot : scheduler->slots) slot->live = 0;
    prepare(launch);
    run_to_end();
    launched = nullptr;
    current = nullptr;
    accesses_left = 0;
    if (scheduler->failed) report = std::string(launch.kernel) + ": " + report;
    return !scheduler->failed;
}

void wait_at_barrier(Site site) {
    Block &block = *current->block;
    current->site = site;
    if (block.at_barrier > 0 && !same(current->site, block.barrier)) fail_divergent();
    block.barrier = site;
    block.at_barrier++;
    current->state = State::barrier;
    if (block.at_barrier == block.live) release_barrier(block);
    give_way();
}

uint64_t meet(Collective collective, unsigned mask, uint64_t value, unsigned source, Site site) {
    Thread &self = *current;
    Warp &warp = *self.warp;
    const unsigned lanes = lanes_of(*self.block, warp);
    if (!(mask >> self.lane & 1)) fail("collective: lane %u is not in its own mask 0x%08x", self.lane, mask);
    if (collective == Collective::shuffle && !(mask >> source & 1))
        fail("shuffle: lane %u reads lane %u, which is not in mask 0x%08x", self.lane, source, mask);
    if (mask & ~lanes) fail("collective: mask 0x%08x names lanes that the block does not have", mask);
    if (mask & warp.done) fail("collective: mask 0x%08x names lanes that have returned", mask);
    self.collective = collective;
    self.mask = mask;
    self.value = value;
    self.source = source;
    self.site = site;
    self.state = State::collective;
    warp.waiting |= 1u << self.lane;
    if ((warp.waiting & mask) == mask && is_complete(warp, collective, mask)) complete(warp, mask);
    give_way();
    return self.value;
}

void spin(Site site) {
    current->site = site;
    if (++scheduler->spins > MOST_SPINS) fail_livelock();
    make_ready(*current);
    // It has nothing to do until another one has run.
    scheduler->recent = nullptr;
    switch_to_next();
}

void pause() {
    make_ready(*current);
    give_way();
}

void pause_at_access() {
    accesses_left = 1 + scheduler->random.below(2 * launched->schedule.access_interval);
    // Not something that happens: a thread that waits in a loop accesses what it waits for.
    make_ready(*current);
    switch_to_next();
}

void *shared_region(const void *declaration, const char *name, size_t bytes, size_t alignment) {
    const Block &block = *current->block;
    const SharedRegion *const regions = block.regions.data();
    for (size_t known = 0; known < block.regions.size(); known++)
        if (regions[known].declaration == declaration) return block.shared.get() + regions[known].offset;
    return new_region(declaration, name, bytes, alignment);
}

void fail(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char where[128];
    const Index3 block = current->block->index, thread = current->index;
    snprintf(where, sizeof where, " in block (%u, %u, %u), thread (%u, %u, %u)", block.x, block.y, block.z, thread.x,
             thread.y, thread.z);
    scheduler->report->append(text).append(where);
    scheduler->failed = true;
    leave();
    abort();
}

void fail_out_of_bounds(const char *name, int64_t index, int64_t length) {
    fail("out of bounds: %s[%lld] of length %lld", name, static_cast<long long>(index),
         static_cast<long long>(length));
}

}  // namespace simt
