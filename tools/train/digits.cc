// SPDX-License-Identifier: MIT
// Draws digits: the training data of a machine without a network. A digit is a few pen strokes (polylines and arcs in a
// unit square, y downward) in one of two or three ways people write it; each sample bends the strokes by a random
// affine map, moves their points a little, takes a pen width and shades every pixel by its distance to the nearest
// stroke. As in MNIST, the figure fills about 20 x 20 of 28 x 28 pixels and its ink has an antialiased edge.
#include <algorithm>
#include <cmath>

#include "tools/train/train.h"

namespace ingot {
namespace {

struct Point {
  double x, y;
};
// An arc about (x, y) with radii rx, ry from angle `from` to `to`, in degrees, 0 = right, 90 = down; rx = 0: the point
// (x, y).
struct Piece {
  double x, y, rx = 0, ry = 0, from = 0, to = 0;
};
struct Stroke {
  int digit, style;  // the strokes of one digit and style together are one figure
  std::vector<Piece> pieces;
};
const std::vector<Stroke>& strokes() {
  static const std::vector<Stroke> list = {
      {0, 0, {{.5, .5, .3, .45, -90, 270}}},
      {0, 1, {{.5, .5, .22, .46, -120, 240}}},
      {1, 0, {{.5, .05}, {.5, .95}}},
      {1, 1, {{.32, .25}, {.52, .05}, {.52, .95}}},
      {1, 2, {{.62, .05}, {.4, .95}}},
      {2, 0, {{.5, .3, .28, .25, 190, 380}, {.2, .93}, {.82, .93}}},
      {2, 1, {{.48, .27, .27, .22, 180, 395}, {.3, .85}, {.25, .95, .08, .06, 200, 420}, {.8, .9}}},
      {3, 0, {{.47, .28, .27, .23, 200, 450}, {.47, .73, .31, .23, -90, 160}}},
      {3, 1, {{.2, .07}, {.76, .07}, {.46, .42}, {.47, .7, .3, .25, -90, 150}}},
      {4, 0, {{.62, .95}, {.62, .05}, {.15, .65}, {.88, .65}}},
      {4, 1, {{.25, .08}, {.2, .5}, {.75, .5}}},
      {4, 1, {{.75, .08}, {.7, .95}}},
      {5, 0, {{.78, .07}, {.3, .07}, {.26, .45}, {.47, .67, .3, .27, -110, 150}}},
      {5, 1, {{.3, .08}, {.27, .42}, {.48, .68, .27, .26, -100, 160}}},
      {5, 1, {{.3, .08}, {.82, .1}}},
      {6, 0, {{.68, .06}, {.34, .4}, {.5, .7, .27, .25, 190, 550}}},
      {6, 1, {{.62, .08}, {.66, .72, .44, .64, 240, 182}, {.47, .72, .24, .22, 180, 540}}},
      {7, 0, {{.18, .08}, {.82, .08}, {.42, .95}}},
      {7, 1, {{.18, .1}, {.8, .08}, {.45, .95}}},
      {7, 1, {{.35, .5}, {.75, .5}}},
      {8, 0, {{.5, .27, .22, .21, 90, 450}, {.5, .72, .28, .24, -90, 270}}},
      {8, 1, {{.74, .16}, {.5, .27, .24, .21, -40, -270}, {.5, .72, .26, .24, -90, 200}, {.74, .16}}},
      {9, 0, {{.5, .3, .26, .24, 0, 360}, {.74, .5}, {.66, .95}}},
      {9, 1, {{.48, .3, .25, .23, 20, 380}, {.72, .3}, {.74, .95}}},
  };
  return list;
}
constexpr int styles[10] = {2, 3, 2, 2, 2, 2, 2, 2, 2, 2};

struct Segment {
  Point a, b;
};

void draw(u8* pixels, int digit, Random& random) {
  const int style = int(random.below(styles[digit]));
  const double angle = random.uniform(-.26, .26), shear = random.uniform(-.25, .25);
  const double sx = random.uniform(14, 20), sy = random.uniform(17, 21);
  const double dx = random.uniform(-1.5, 1.5), dy = random.uniform(-1.5, 1.5);
  const double pen = random.uniform(.85, 1.7), wobble = random.uniform(0, .035), ink = random.uniform(.8, 1);
  auto place = [&](double x, double y) {
    x += random.uniform(-wobble, wobble) - .5;
    y += random.uniform(-wobble, wobble) - .5;
    x = (x - y * shear) * sx, y *= sy;
    return Point{14 + dx + x * std::cos(angle) - y * std::sin(angle),
                 14 + dy + x * std::sin(angle) + y * std::cos(angle)};
  };
  std::vector<Segment> segments;
  for (const Stroke& s : strokes()) {
    if (s.digit != digit || s.style != style) continue;
    std::vector<Point> line;
    for (const Piece& p : s.pieces) {
      const int steps = p.rx == 0 ? 0 : 10;
      for (int i = 0; i <= steps; i++) {
        const double t = steps ? (p.from + (p.to - p.from) * i / steps) * M_PI / 180 : 0;
        line.push_back(place(p.x + p.rx * std::cos(t), p.y + p.ry * std::sin(t)));
      }
    }
    for (size_t i = 1; i < line.size(); i++) segments.push_back({line[i - 1], line[i]});
  }
  double nearest[28 * 28];  // squared distance of a pixel's centre to the pen's path
  std::fill(std::begin(nearest), std::end(nearest), 1e9);
  const double reach = pen + 1;
  for (const auto& [a, b] : segments) {
    auto low = [&](double u, double v) { return std::max(0, int(std::min(u, v) - reach)); };
    auto high = [&](double u, double v) { return std::min(27, int(std::max(u, v) + reach)); };
    const double ux = b.x - a.x, uy = b.y - a.y, length2 = ux * ux + uy * uy;
    for (int y = low(a.y, b.y); y <= high(a.y, b.y); y++)
      for (int x = low(a.x, b.x); x <= high(a.x, b.x); x++) {
        const double px = x + .5 - a.x, py = y + .5 - a.y;
        const double t = length2 > 0 ? std::clamp((px * ux + py * uy) / length2, 0., 1.) : 0;
        const double ex = px - t * ux, ey = py - t * uy;
        double& d = nearest[y * 28 + x];
        d = std::min(d, ex * ex + ey * ey);
      }
  }
  for (int i = 0; i < 28 * 28; i++)
    pixels[i] = u8(std::lround(255 * ink * std::clamp(pen + .5 - std::sqrt(nearest[i]), 0., 1.)));
}

}  // namespace

Images draw_digits(i64 n, u64 seed) {
  Images images;
  images.pixels.resize(size_t(n) * 28 * 28);
  images.labels.resize(size_t(n));
  strokes();
  constexpr i64 part = 256;
  parallel((n + part - 1) / part, [&](i64 p) {
    for (i64 i = p * part; i < std::min(n, (p + 1) * part); i++) {
      Random random{seed * 0x100000001B3ull + u64(i)};
      random.next();
      images.labels[size_t(i)] = u8(random.below(10));
      draw(&images.pixels[size_t(i) * 28 * 28], images.labels[size_t(i)], random);
    }
  });
  return images;
}

std::vector<i64> permutation(i64 n, u64 seed, u64 epoch) {
  std::vector<i64> order(static_cast<size_t>(n));
  for (i64 i = 0; i < n; i++) order[size_t(i)] = i;
  Random random{seed * 0x9E3779B97F4A7C15ull ^ (epoch + 1) * 0xD1B54A32D192ED03ull};
  for (i64 i = n - 1; i > 0; i--) std::swap(order[size_t(i)], order[size_t(random.below(i + 1))]);
  return order;
}

}  // namespace ingot
