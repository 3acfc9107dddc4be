#include "turns.h"

namespace simt {

void Turns::start(uint64_t seed) {
    random = Random(seed);
    ready.clear();
    late.clear();
    recent = nullptr;
    static const uint32_t STAY[] = {0, 128, 240, 255}, LATE[] = {0, 0, 256, 4096};
    stay_in_256 = STAY[random.below(4)];
    late_in_65536 = LATE[random.below(4)];
}

void Turns::make_room(size_t warps, size_t threads) {
    ready.make_room(warps);
    late.make_room(threads);
}

bool Turns::draws_late() {
    return late_in_65536 && random.below(65536) < late_in_65536;
}

Thread *Turns::next() {
    // A late one now and then all the same: another one may wait for it in a loop.
    if (!late.empty() && (ready.empty() || random.below(1024) == 0)) return take_late();
    if (ready.empty()) return nullptr;

    Warp *warp = recent;
    const bool stays = warp && warp->ready != 0 && random.below(256) < stay_in_256;
    if (!stays) warp = ready[random.below(ready.size())];
    recent = warp;
    const unsigned turn = random.below(WARP_LANES);
    const uint32_t turned = warp->ready >> turn | warp->ready << (WARP_LANES - turn) % WARP_LANES;
    const unsigned lane = (unsigned(__builtin_ctz(turned)) + turn) % WARP_LANES;
    warp->ready &= ~(1u << lane);
    if (warp->ready == 0) {
        size_t place = 0;
        while (ready[place] != warp) place++;
        ready.remove(place);
    }
    return warp->threads + lane;
}

Thread *Turns::take_late() {
    const uint32_t drawn = random.below(late.size());
    Thread *const thread = late[drawn];
    late.remove(drawn);
    return thread;
}

}  // namespace simt
